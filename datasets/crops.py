"""Training batches for registration: aligned pairs in, deformed crops with their true flows out.

Crops are sampled straight from the whole images: the deformation belongs to the image, the crop only looks at a
window of it. A black band, where the warped image would need pixels from outside the original, gives the
deformation away, so most windows are drawn anew while one shows, up to 24 times: small images that are deformed much
may still show some.
"""

import bisect
import itertools
from pathlib import Path

import torch
from torch import Tensor

from datasets.augment import photometric
from datasets.deformation import Ranges, random_deformation
from datasets.paired import Pair, PairedFolders, resize
from models.warping import pixel_grid, sample
from utils.config import Data

_WINDOW_TRIES = 24

# How much of the affine deformation is taken to be left after a first registration.
_RESIDUAL = 0.15


class CropSampler:
    """Draws training batches from all sets of ``config``, kept in memory as 8-bit images at ``config.scale``.

    Every random choice comes from ``generator``.
    """

    def __init__(self, config: Data, generator: torch.Generator):
        self.config, self.generator = config, generator
        reach = (config.rotation, config.translation, config.shear)
        self.ranges = Ranges(*reach, config.elastic)
        self.residual_ranges = Ranges(*(_RESIDUAL * value for value in reach), config.elastic)
        self.sets = []
        for name in config.sets:
            folder = Path(config.root) / name
            pairs = PairedFolders(folder / "ir", folder / "vi")
            self.sets.append([self._shrink(pairs[i]) for i in range(len(pairs))])
        self.shares = list(itertools.accumulate(config.sets.values()))

    def _shrink(self, pair: Pair) -> tuple[Tensor, Tensor]:
        size = [round(side * self.config.scale) for side in pair.vi.shape[-2:]]
        pair = pair.in_vi_frame()
        images = [pair.ir.mean(dim=0, keepdim=True), pair.vi.expand(3, -1, -1)]
        if size != list(pair.vi.shape[-2:]):
            images = [resize(x, size) for x in images]
        return tuple((x * 255).round().to(torch.uint8) for x in images)

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def batch(self, size: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """``size`` pairs on ``device``; in the first half the IR image is deformed, in the second the VI image.

        ``ir`` ``(B, 1, c, c)`` and ``vi`` ``(B, 3, c, c)`` in [0, 1]; ``flow_ir2vi`` and ``flow_vi2ir``
        ``(B, 2, c, c)`` in pixels, the true fields that warp IR onto VI and VI onto IR; ``valid_ir2vi`` and
        ``valid_vi2ir`` ``(B, 1, c, c)``, 1 where the pixel and its partner show image content.
        """
        items = [self._item("ir" if i < (size + 1) // 2 else "vi") for i in range(size)]
        return {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}

    def _draw_pair(self) -> tuple[Tensor, Tensor]:
        pairs = self.sets[bisect.bisect(self.shares, self._uniform(0, self.shares[-1] * 0.999999))]
        index = int(torch.randint(len(pairs), (), generator=self.generator))
        ir, vi = (x.float() / 255 for x in pairs[index])
        if self._uniform(0, 1) < 0.5:
            ir, vi = ir.flip(-1), vi.flip(-1)
        if self.config.quarter_turns:
            turns = int(self._uniform(0, 4))
            ir, vi = ir.rot90(turns, (-2, -1)), vi.rot90(turns, (-2, -1))
        return ir, vi

    def _item(self, moving: str) -> dict[str, Tensor]:
        config = self.config
        ir, vi = self._draw_pair()
        full = tuple(round(side / config.scale) for side in ir.shape[-2:])
        band_allowed = self._uniform(0, 1) < config.band
        ranges = self.residual_ranges if self._uniform(0, 1) < config.residual else self.ranges
        for _ in range(_WINDOW_TRIES):
            zoom = self._uniform(*config.zoom) / config.scale
            zoom = min(zoom, (min(full) - 1) / config.crop)
            corner = [self._uniform(0, side - config.crop * zoom) for side in full]
            deformation = random_deformation(1, full, ranges, self.generator)
            origin = torch.tensor([corner[1], corner[0]]).view(1, 2, 1, 1)
            grid = pixel_grid(config.crop, config.crop, like=ir)
            window = origin + zoom * grid
            border = window[:, :, [0, -1]].transpose(2, 3), window[:, :, :, [0, -1]]
            edge = torch.cat(border, dim=2)
            seen = edge + deformation.displacement(edge)
            if band_allowed or bool(_inside(seen, full).all()):
                break
        d = deformation.displacement(window)
        phi = deformation.inverse_displacement(window)
        content = _inside(window + d, full)

        images = {"ir": ir, "vi": vi}
        positions = {"ir": window, "vi": window} | {moving: window + d}
        crops = {
            name: photometric(name, _read(image, positions[name], config.scale), self.generator)
            for name, image in images.items()
        }
        crops[moving] = crops[moving] * content
        # In crop pixels, a partner is visible if it lies in the crop and, going to the moved image, not in its band.
        position = grid + phi / zoom
        partner = sample(content.float(), position) > 0.999
        forward = f"{moving}2{'vi' if moving == 'ir' else 'ir'}"
        backward = "2".join(reversed(forward.split("2")))
        return {
            "ir": crops["ir"][0],
            "vi": crops["vi"][0],
            f"flow_{forward}": phi[0] / zoom,
            f"flow_{backward}": d[0] / zoom,
            f"valid_{forward}": partner[0].float(),
            f"valid_{backward}": (content & _inside(grid + d / zoom, (config.crop, config.crop)))[0].float(),
        }


def _inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    last = torch.tensor([size[1] - 1, size[0] - 1], dtype=points.dtype).view(1, 2, 1, 1)
    return ((points >= 0) & (points <= last)).all(dim=1, keepdim=True)


def _read(image: Tensor, points: Tensor, scale: float) -> Tensor:
    """Sample a reduced ``image`` ``(C, h, w)`` at ``points`` given in pixels of the whole image."""
    return sample(image[None], (points + 0.5) * scale - 0.5, padding="border")
