"""Random deformations: a random affine map plus a smooth elastic field, with its exact inverse (paper, Sec. IV-A).

A deformation maps a pixel ``q`` of the deformed image to the pixel ``q + d(q) = A (q + e(q))`` of the original, so
``deformed(q) = original(q + d(q))``. It is defined on the whole plane, not only on the frame: it can be evaluated on
any crop, and its inverse needs no values that were never stored.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.paired import Pair
from models.layers import blur, gaussian_kernel
from models.warping import central_rectangle, pixel_grid, sample, valid_mask, warp
from utils.errors import UserError

# The elastic field is uniform noise blurred six times (paper: sigma 15 each, kernels cut short), which on the
# authors' test fields gives a correlation of exp(-r^2 / (4 s^2)) with s about 24 px. A field this smooth is kept
# on a grid of every 8th pixel.
_ELASTIC_SIGMA = 24.0
_SPACING = 8
_MARGIN = 128


@dataclass(frozen=True)
class Ranges:
    """How far random deformations reach; the defaults are the published ranges of training.

    ``rotation``: largest angle in degrees for images of 500 px on their longer side; it grows in proportion to that
    side, as published. ``translation``: largest shift, on either axis, as a share of the longer side (the published
    0.1 is in units of half that side). ``shear``: largest absolute value added to each entry of the linear map.
    ``elastic``: standard deviation of the elastic field in pixels.
    """

    rotation: float = 10.0
    translation: float = 0.05
    shear: float = 0.0
    elastic: float = 1.6


TEST = Ranges(rotation=7.0, translation=0.025, elastic=1.2)


class Deformation:
    """A batch of deformations of images of ``size`` (height, width), or up to that size; see the module's text.

    ``matrix`` ``(B, 2, 3)`` is the affine map A in pixels, ``elastic`` ``(B, 2, h, w)`` the elastic field e in pixels
    on a grid of every 8th pixel that reaches 128 px beyond the frame.
    """

    def __init__(self, matrix: Tensor, elastic: Tensor, size: tuple[int, int]):
        self.matrix, self.elastic, self.size = matrix, elastic, size
        linear, shift = matrix[:, :, :2], matrix[:, :, 2:]
        inverse = torch.linalg.inv(linear)
        self.inverse_matrix = torch.cat((inverse, -inverse @ shift), dim=2)

    def _elastic_at(self, points: Tensor) -> Tensor:
        return sample(self.elastic, (points + _MARGIN) / _SPACING, padding="border")

    def frame(self) -> Tensor:
        """The pixel positions of the whole image, ``(B, 2, H, W)``."""
        return pixel_grid(*self.size, like=self.matrix).expand(len(self.matrix), -1, -1, -1)

    def displacement(self, points: Tensor | None = None) -> Tensor:
        """``d(q)`` in pixels at ``points`` q ``(B, 2, h, w)``, by default on the whole frame; same shape."""
        points = self.frame() if points is None else points
        return apply_affine(self.matrix, points + self._elastic_at(points)) - points

    def inverse_displacement(self, points: Tensor | None = None, iterations: int = 20) -> Tensor:
        """The ``phi(p)`` with ``q = p + phi(p)`` and ``q + d(q) = p``, in pixels, at ``points`` p as above.

        The affine part is inverted in closed form, the elastic part by a fixed point that contracts by the
        field's slope (below 0.2 for the published ranges), so 20 rounds reach float32 rounding.
        """
        points = self.frame() if points is None else points
        target = apply_affine(self.inverse_matrix, points)
        position = target
        for _ in range(iterations):
            position = target - self._elastic_at(position)
        return position - points


def apply_affine(matrix: Tensor, points: Tensor) -> Tensor:
    """Map ``points`` ``(B, 2, h, w)`` (x, y) by ``matrix`` ``(B, 2, 3)``."""
    return apply_linear(matrix[:, :, :2], points) + matrix[:, :, 2, None, None]


def apply_linear(linear: Tensor, vectors: Tensor) -> Tensor:
    """Map ``vectors`` ``(B, 2, h, w)`` (x, y) by ``linear`` ``(B, 2, 2)``."""
    # Not a matrix product: GPUs may round those to ten bits (TF32), half a pixel in a thousand.
    to_x, to_y = (linear[:, row, :, None, None] * vectors for row in range(2))
    return torch.stack((to_x.sum(dim=1), to_y.sum(dim=1)), dim=1)


def random_deformation(
    batch: int,
    size: Sequence[int] | Tensor,
    ranges: Ranges,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    affine: Tensor | None = None,
) -> Deformation:
    """Draw ``batch`` deformations on ``device`` for images of ``size``: one (height, width), or ``(B, 2)`` of them.

    ``affine`` ``(B,)`` scales the ranges of the affine part, sample by sample. The random numbers come from
    ``generator`` on the CPU, so that a seed gives the same fields on every device.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    sizes = torch.as_tensor(size, dtype=torch.float32).expand(batch, 2)
    longer = sizes.amax(dim=1)
    reach = torch.ones(batch) if affine is None else affine
    angle = uniform(batch) * math.radians(ranges.rotation) * longer / 500 * reach
    cos, sin = torch.cos(angle), torch.sin(angle)
    linear = torch.stack((cos, -sin, sin, cos), dim=1).view(batch, 2, 2)
    linear = linear + ranges.shear * uniform(batch, 2, 2) * reach.view(-1, 1, 1)
    shift = ranges.translation * uniform(batch, 2) * longer[:, None] * reach[:, None]
    centre = ((sizes.flip(1) - 1) / 2)[:, :, None]
    offset = centre - linear @ centre + shift[:, :, None]
    matrix = torch.cat((linear, offset), dim=2)

    height, width = (int(side) for side in sizes.amax(dim=0))
    cells = [math.ceil((side + 2 * _MARGIN) / _SPACING) + 1 for side in (height, width)]
    sigma = _ELASTIC_SIGMA / _SPACING
    kernel = gaussian_kernel(6 * math.ceil(sigma) + 1, sigma)
    noise = uniform(batch, 2, *(n + kernel.numel() - 1 for n in cells))
    half = kernel.numel() // 2
    field = blur(noise.to(device), kernel, border="zero")[:, :, half:-half, half:-half]
    # Uniform noise in [-1, 1] has variance 1/3; filtering scales it by the sum of squared weights.
    deviation = math.sqrt(1 / 3) * float(kernel.square().sum())
    elastic = field * (ranges.elastic / deviation)
    return Deformation(matrix.to(device), elastic, (height, width))


def true_displacement(name: str, size: Sequence[int], seed: int) -> Tensor:
    """The displacement ``(1, 2, H, W)`` in pixels of the image ``name`` of ``size`` (height, width)."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return random_deformation(1, size, TEST, generator).displacement()


def deform(pair: Pair, seed: int, band: bool) -> Pair:
    """The test pair made of an aligned one; without the ``band`` it is cropped. UserError if it cannot be."""
    size = tuple(pair.vi.shape[-2:])
    if pair.ir.shape[-2:] != size:
        sizes = " and ".join(f"{image.shape[-2]}x{image.shape[-1]}" for image in (pair.ir, pair.vi))
        raise UserError(f"{pair.name}: the images differ in size (height x width): {sizes}; they must be aligned")
    flow = true_displacement(pair.name, size, seed)
    made = Pair(pair.name, pair.ir, pair.vi, warp(pair.ir[None], flow)[0], flow[0])
    if band:
        return made
    try:
        rows, columns = central_rectangle(valid_mask(flow)[0, 0])
    except ValueError as error:
        raise UserError(f"{pair.name}: {error}; choose another seed") from error
    # A displacement does not depend on where the frame begins, so the crop's is the crop of it.
    return Pair(pair.name, *(x[:, rows, columns] for x in (made.ir, made.vi, made.ir_warp, made.flow)))
