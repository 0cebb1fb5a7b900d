"""Represent the result of a registration: the position in the IR file of each pixel of the VI file.

Convention: positions are in the *files'* own pixels, x to the right, y downwards, centres at whole numbers. A pixel
``p`` of VI shows what IR shows at ``q = H(p + d(p))``, with the homography ``H = vi_to_ir`` and a smooth displacement
``d`` in VI's pixels; without one, ``q = H(p)``. Sizes are (width, height).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from torch import Tensor

from models.warping import pixel_grid, resize_matrix, valid_mask
from utils.errors import UserError
from utils.files.writing import write_bytes, write_file

MODES = ("nearest", "bilinear", "bicubic")
_FIXED_POINT_ROUNDS = 30
_AT_ONCE = 1 << 20  # points, for bounded memory on large files
_CELLS = 80  # along the longer side, of the displacement of a composed or inverted transform


@dataclass(frozen=True)
class Transform:
    """``vi_to_ir`` ``(3, 3)`` float64; ``vi_size`` and ``ir_size`` (width, height) of the files; ``displacement``
    ``(2, h, w)`` float32 or None, x and y in VI's pixels, at the centres of h x w equal cells of VI's frame.

    ``accepted``: whether the registration is to be trusted; ``confidence`` in [0, 1]; ``source``: what found it.
    """

    vi_to_ir: Tensor
    vi_size: tuple[int, int]
    ir_size: tuple[int, int]
    displacement: Tensor | None = None
    accepted: bool = True
    confidence: float = 1.0
    source: str = "given"

    @staticmethod
    def of_frames(vi_size: tuple[int, int], ir_size: tuple[int, int]) -> "Transform":
        """Fit IR's frame to VI's, edge to edge; the identity for files of one size."""
        return Transform(resize_matrix(vi_size[::-1], ir_size[::-1]), vi_size, ir_size, source="frames")

    def to_ir(self, points: Tensor) -> Tensor:
        """Map ``points`` ``(N, 2)`` of VI to IR, ``(N, 2)``, float64."""
        points = points.double()
        return _apply(self.vi_to_ir, points + self._displacement_at(points))

    def to_vi(self, points: Tensor) -> Tensor:
        """Map ``points`` ``(N, 2)`` of IR to VI, ``(N, 2)``, float64, by fixed-point iteration."""
        target = _apply(torch.linalg.inv(self.vi_to_ir), points.double())
        position = target
        for _ in range(_FIXED_POINT_ROUNDS if self.displacement is not None else 0):
            position = target - self._displacement_at(position)
        return position

    def map_vi2ir(self) -> Tensor:
        """Return x and y in IR's pixels for every pixel of VI: ``(2, H, W)`` float32, never NaN; may lie outside IR."""
        return self._map(self.to_ir, self.vi_size)

    def map_ir2vi(self) -> Tensor:
        """Return x and y in VI's pixels for every pixel of IR: ``(2, h, w)`` float32; may lie outside VI."""
        return self._map(self.to_vi, self.ir_size)

    def warp_ir(self, ir: Tensor, mode: str = "bicubic") -> tuple[Tensor, Tensor]:
        """Resample ``ir`` ``(B, C, h, w)``, an array of the IR file, on VI's frame: ``(B, C, H, W)`` and ``valid``
        ``(1, 1, H, W)``, 1 where it was sampled inside (elsewhere the result is 0). ValueError for another size.
        """
        return _warp(ir, self.map_vi2ir(), self.ir_size, mode)

    def warp_vi(self, vi: Tensor, mode: str = "bicubic") -> tuple[Tensor, Tensor]:
        """Resample ``vi`` ``(B, C, H, W)`` on IR's frame, as :meth:`warp_ir`."""
        return _warp(vi, self.map_ir2vi(), self.vi_size, mode)

    def inverse(self) -> "Transform":
        """Return the transform from IR to VI."""
        return self.rebuilt(torch.linalg.inv(self.vi_to_ir), self.ir_size, self.vi_size, [self], self.to_vi)

    def then(self, second: "Transform") -> "Transform":
        """Compose: apply this one, then ``second``, whose VI file is this one's IR file."""
        if second.vi_size != self.ir_size:
            raise ValueError(
                f"the second begins in a file of {second.vi_size}, the first ends in one of {self.ir_size}"
            )
        matrix = second.vi_to_ir @ self.vi_to_ir
        return self.rebuilt(
            matrix, self.vi_size, second.ir_size, [self, second], lambda points: second.to_ir(self.to_ir(points))
        )

    def save(self, path: str | Path) -> None:
        """Write JSON to ``path``, and the displacement, if there is one, to the same name with ``.npz``.

        Raises UserError if they cannot be written.
        """
        path = Path(path)
        grid = path.with_suffix(".npz")
        values = {
            "vi_to_ir": (self.vi_to_ir / self.vi_to_ir[2, 2]).tolist(),
            "vi_size": list(self.vi_size),
            "ir_size": list(self.ir_size),
            "accepted": self.accepted,
            "confidence": self.confidence,
            "source": self.source,
            "displacement": grid.name if self.displacement is not None else None,
        }
        if self.displacement is not None:
            write_file(grid, lambda file: np.savez_compressed(file, displacement=self.displacement.numpy()))
        write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())

    @staticmethod
    def load(path: str | Path) -> "Transform":
        """Read what :meth:`save` wrote. Raises UserError naming the file if it is unreadable or not a transform."""
        path = Path(path)
        try:
            values = json.loads(path.read_text())
            matrix = torch.tensor(values["vi_to_ir"], dtype=torch.float64).view(3, 3)
            vi_size, ir_size = _size(values["vi_size"]), _size(values["ir_size"])
            if min(vi_size + ir_size) < 1:
                raise ValueError("vi_size and ir_size are [width, height]")
            if not torch.isfinite(matrix).all() or abs(torch.linalg.det(matrix)) < 1e-12:
                raise ValueError("vi_to_ir cannot be inverted")
            displacement = None
            if values.get("displacement"):
                with np.load(path.with_name(values["displacement"])) as arrays:
                    displacement = torch.from_numpy(arrays["displacement"].astype(np.float32))
        except OSError as error:
            raise UserError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, ValueError, RuntimeError, BadZipFile) as error:
            raise UserError(f"{path}: not a transform ({error})") from error
        return Transform(
            matrix,
            vi_size,
            ir_size,
            displacement,
            bool(values.get("accepted", True)),
            float(values.get("confidence", 1.0)),
            str(values.get("source", "given")),
        )

    def _displacement_at(self, points: Tensor) -> Tensor:
        """Interpolate at ``points`` ``(N, 2)`` of VI: ``(N, 2)``; edge values continue beyond the frame."""
        if self.displacement is None:
            return torch.zeros_like(points)
        grid = (2 * points + 1) / points.new_tensor(self.vi_size) - 1
        values = F.grid_sample(
            self.displacement[None].to(points), grid[None, None], "bicubic", "border", align_corners=False
        )
        return values[0, :, 0].T

    def _map(self, to: Callable[[Tensor], Tensor], size: tuple[int, int]) -> Tensor:
        grid = pixel_grid(size[1], size[0], self.vi_to_ir).flatten(2)[0].T
        return torch.cat([to(part).float() for part in grid.split(_AT_ONCE)]).T.reshape(2, size[1], size[0])

    def rebuilt(
        self, matrix, vi_size, ir_size, parts: list["Transform"], to: Callable[[Tensor], Tensor]
    ) -> "Transform":
        """Build a transform from ``matrix`` and the point map ``to`` of VI, ``(N, 2)`` to ``(N, 2)``; it has a
        displacement if one of ``parts`` has, and is accepted if all are.
        """
        displacement = None
        if any(part.displacement is not None for part in parts):
            cells = [max(1, round(_CELLS * n / max(vi_size))) for n in vi_size]
            centres = pixel_grid(cells[1], cells[0], matrix).flatten(2)[0].T + 0.5
            centres = centres * matrix.new_tensor([n / c for n, c in zip(vi_size, cells)]) - 0.5
            moved = _apply(torch.linalg.inv(matrix), to(centres)) - centres
            displacement = moved.T.reshape(2, cells[1], cells[0]).float()
        accepted, confidence = all(part.accepted for part in parts), min(part.confidence for part in parts)
        source = " + ".join(part.source for part in parts)
        return Transform(matrix, vi_size, ir_size, displacement, accepted, confidence, source)


def _apply(matrix: Tensor, points: Tensor) -> Tensor:
    return transform_points(matrix[None], points[None])[0]


def _warp(image: Tensor, positions: Tensor, size: tuple[int, int], mode: str) -> tuple[Tensor, Tensor]:
    """Sample ``image`` ``(B, C, h, w)`` of ``size`` (width, height) at ``positions`` ``(2, H, W)``; with valid mask."""
    if tuple(image.shape[-2:]) != size[::-1]:
        raise ValueError(f"the array is {image.shape[-1]}x{image.shape[-2]}, the file {size[0]}x{size[1]}")
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}; choose from {', '.join(MODES)}")
    positions = positions.to(image.device)[None]
    valid = valid_mask(positions - pixel_grid(*positions.shape[-2:], like=positions), size[::-1])
    grid = (2 * positions.permute(0, 2, 3, 1) + 1) / positions.new_tensor(size) - 1
    values = image if image.is_floating_point() else image.float()
    # Bicubic interpolation needs two pixels around; beyond the edge they are its own.
    result = F.grid_sample(values, grid.to(values.dtype).expand(len(image), -1, -1, -1), mode, "border", False)
    # Clamp the overshoot of cubic interpolation at edges.
    result = result.clamp(values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)) * valid.to(result.dtype)
    return (result if image.is_floating_point() else result.round().to(image.dtype)), valid


def _size(values: list) -> tuple[int, int]:
    width, height = values
    return int(width), int(height)


def points_matrix(size: tuple[int, int]) -> Tensor:
    """Return the matrix ``(3, 3)``, float64, from pixels of a file of ``size`` (width, height) to points, which are
    positions from its centre in units of half its longer side.
    """
    width, height = size
    unit = max(size) / 2
    rows = [[1 / unit, 0, -(width - 1) / 2 / unit], [0, 1 / unit, -(height - 1) / 2 / unit], [0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)
