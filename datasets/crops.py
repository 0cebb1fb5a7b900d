"""Training batches: crops of aligned pairs, either randomly deformed with their true flows, or undeformed with labels.

All images are kept on the training device as 8-bit integers, and everything is drawn and sampled there, so that a GPU
never waits for its host. A deformation is drawn for the whole image; the crop is a window in it that may be mirrored,
rotated and zoomed. Where the deformation samples outside the original, the warped image has a black band, whose outline
reveals the deformation. Of several windows, each slightly smaller than the one before, the first without any part of
the band is taken, except in a given share of the samples.
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.augment import other_modality, photometric
from datasets.deformation import REGISTERED, Deformation, Ranges, apply_affine, apply_linear, random_deformation
from datasets.packed import LEVELS, PackedImages
from datasets.paired import Pair
from datasets.training_sets import Data, held_out, open_ir_set, open_set
from models.warping import pixel_grid, resize, valid_mask, warp
from utils.colour import luminance
from utils.errors import UserError
from utils.notes import Notes

_WINDOW_TRIES = 24
_SMALLEST_WINDOW = 0.5  # factor on the zoom at the last try

# The fraction of the affine deformation that is assumed to remain after a first registration.
_RESIDUAL = 0.15

# Fixed-point iterations of a deformation's inverse: the error is below 1e-4 px for the published ranges.
_INVERSE_ITERATIONS = 8

Batch = dict[str, Tensor]


@dataclass
class Window:
    """The affine maps from crops to their images, for each of N crops: pixel u is at position ``linear u + origin``."""

    matrix: Tensor  # (N, 2, 3): linear, origin
    inverse: Tensor  # (N, 2, 2): the inverse of linear
    sizes: Tensor  # (N, 2): width and height of the images
    zoom: Tensor  # (N,): image pixels per crop pixel

    def __getitem__(self, index: Tensor) -> "Window":
        """Select the windows ``index`` ``(M,)``."""
        return Window(self.matrix[index], self.inverse[index], self.sizes[index], self.zoom[index])

    def positions(self, grid: Tensor) -> Tensor:
        """Map crop pixels ``grid`` ``(N, 2, h, w)`` to image positions."""
        return apply_affine(self.matrix, grid)

    def into_crop(self, displacement: Tensor) -> Tensor:
        """Convert a displacement ``(N, 2, h, w)`` from image pixels to crop pixels."""
        return apply_linear(self.inverse, displacement)

    def inside(self, points: Tensor) -> Tensor:
        """Test whether image positions lie between the centres of the first and last pixels: ``(N, 1, h, w)`` bool."""
        last = (self.sizes - 1).view(-1, 2, 1, 1)
        return ((points >= 0) & (points <= last)).all(dim=1, keepdim=True)


class CropSampler:
    """Draw training batches on ``device`` from all sets of ``config``, kept in memory at ``config.scale``.

    With ``labels`` the label maps are read too, for :meth:`aligned`. ``seed`` determines every random choice on a type
    of device; :meth:`state` and :meth:`restore` save and continue the random sequence. ``config`` may be replaced
    between two draws by one that reads the same images. ``lines``: what to tell the user of the images. Raises
    UserError if a set cannot be read, if none of its pairs remains for training, or if an image is too small to crop.
    """

    def __init__(self, config: Data, seed: int, device: torch.device | str = "cpu", labels: bool = False):
        self.config, self.device, self.labels = config, torch.device(device), labels
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.names: list[str] = []
        self.lines: list[str] = []
        notes = Notes(self.lines.append)
        images, classes, whole, counts = [], [], [], []
        for name in [*config.sets, *config.ir_sets]:
            pairs = open_set(config, name, labels) if name in config.sets else open_ir_set(config, name)
            self.lines += [f"note: {line}" for line in pairs.lines]
            count = len(pairs) - held_out(config, len(pairs))
            if count < 1:
                raise UserError(f"{name}: data.hold_out leaves none of its {len(pairs)} pairs to train on")
            for i in range(count):
                pair = pairs[i].in_vi_frame()
                # An image without a partner is its own one, which is nothing to tell.
                notes.tell(pair.name, pair.notes if name in config.sets else pair.infrared.notes)
                levels = self._levels(pair)
                images.append(levels)
                whole.append((pair.vi.shape[2], pair.vi.shape[1]))
                self.names.append(pair.name)
                if labels:
                    size = levels[0].shape[:2]
                    label = pair.label[None, None].float() if name in config.sets else torch.zeros(1, 1, *size)
                    classes.append(F.interpolate(label, size, mode="nearest-exact")[0, 0].to(torch.uint8))
            counts.append(count)
        largest = max(side for levels in images for side in levels[0].shape[:2])
        if config.crop > largest:
            raise UserError(
                f"data.crop={config.crop} is larger than every image (at data.scale {largest} pixels at most); "
                "choose a smaller one"
            )
        notes.close()
        sides = [min(levels[0].shape[:2]) for levels in images]
        if small := sum(side < config.crop for side in sides):
            self.lines.append(
                f"note: {small} of {len(images)} images have a side below data.crop={config.crop} (at data.scale "
                f"{min(sides)} pixels) and are magnified; a smaller data.crop avoids it"
            )
        self.images = PackedImages(images, self.device, classes if labels else None)
        self.whole = torch.tensor(whole, dtype=torch.float32, device=self.device)  # (width, height) before reduction
        self.frame = max(height for _, height in whole), max(width for width, _ in whole)
        self.counts = torch.tensor(counts, device=self.device)
        self.first = self.counts.cumsum(0) - self.counts
        shares = [*config.sets.values(), *config.ir_sets.values()]
        self.shares = torch.tensor(list(itertools.accumulate(shares)), device=self.device)
        # The first image without a partner.
        self.first_alone = sum(counts[: len(config.sets)])

    def state(self) -> dict[str, Tensor]:
        """Return the random state; :meth:`restore` continues from it exactly, on a device of the same type."""
        return {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a state of :meth:`state`; one of another type of device cannot be loaded and is left out."""
        if state["generator"].shape == self.generator.get_state().shape:
            self.generator.set_state(state["generator"].cpu())

    def _levels(self, pair: Pair) -> list[Tensor]:
        """Return the 8-bit channels IR, R, G, B of ``pair`` at each level, ``(H, W, 4)``."""
        height, width = pair.vi.shape[-2:]
        image = torch.cat((luminance(pair.ir[None])[0], pair.vi.expand(3, -1, -1)))[None]
        levels = []
        for level in range(LEVELS):
            size = [max(1, round(side * self.config.scale / 2**level)) for side in (height, width)]
            if level == 0 and min(size) < 2:
                raise UserError(
                    f"{pair.name}: {height}x{width} pixels are too few for crops at scale {self.config.scale}"
                )
            reduced = image if size == [height, width] else resize(image, size)
            levels.append((reduced[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous())
        return levels

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.device)

    def _pick(self, size: int, sets: int) -> Tensor:
        """Pick ``size`` images at random from the first ``sets`` sets by their shares; their indices ``(B,)``."""
        pick, place = self._uniform(2, size)
        shares = self.shares[:sets]
        chosen = torch.searchsorted(shares, pick * shares[-1], right=True).clamp(max=sets - 1)
        return self.first[chosen] + (place * self.counts[chosen]).long()

    def _draw_windows(self, sizes: Tensor, turns: Tensor, zoom_factor: Tensor) -> Window:
        """Draw a window in each image of ``sizes`` (width, height), mirrored and rotated by ``turns`` ``(N, 2, 2)``."""
        config, count = self.config, len(sizes)
        low, high = (math.log(bound / config.scale) for bound in config.zoom)
        zoom = self._uniform(count, low=low, high=high).exp()
        zoom = torch.minimum(zoom, (sizes.amin(dim=1) - 1) / config.crop) * zoom_factor
        half = zoom[:, None] * (config.crop - 1) / 2
        centre = half + self._uniform(count, 2) * (sizes - 1 - 2 * half)
        linear = zoom.view(-1, 1, 1) * turns
        # The middle of the crop is at the centre of the window.
        origin = centre - linear.sum(dim=2) * ((config.crop - 1) / 2)
        inverse = turns.mT / zoom.view(-1, 1, 1)  # turns are orthogonal
        return Window(torch.cat((linear, origin[:, :, None]), dim=2), inverse, sizes, zoom)

    def _draw_turns(self, count: int) -> Tensor:
        """Draw linear maps ``(B, 2, 2)``: horizontal flips or, with quarter turns, all eight symmetries of a square."""
        x_sign, y_sign, swap = self._uniform(3, count) < 0.5
        if not self.config.quarter_turns:
            y_sign, swap = torch.zeros_like(y_sign), torch.zeros_like(swap)
        turns = torch.diag_embed(torch.where(torch.stack((x_sign, y_sign), dim=1), -1.0, 1.0))
        return torch.where(swap.view(-1, 1, 1), turns.flip(1), turns)

    def _grid(self, count: int) -> Tensor:
        """Return the pixel positions of ``count`` crops, ``(B, 2, c, c)``."""
        side = self.config.crop
        return pixel_grid(side, side, like=self.whole).expand(count, -1, -1, -1)

    def _place_windows(self, sizes: Tensor, turns: Tensor, deformation: Deformation, band_allowed: Tensor) -> Window:
        """Draw ``_WINDOW_TRIES`` windows per image; take the first without a band, or the first where it is allowed."""
        count, tries = len(sizes), _WINDOW_TRIES
        attempt = torch.arange(tries, device=self.device).repeat(count)
        factor = 1 - (1 - _SMALLEST_WINDOW) * attempt / tries
        each = torch.arange(count, device=self.device).repeat_interleave(tries)
        windows = self._draw_windows(sizes[each], turns[each], factor)
        grid = self._grid(1)
        # A window whose border samples inside the image samples inside it everywhere.
        last = self.config.crop - 1
        border = torch.cat((grid[:, :, ::last].transpose(2, 3), grid[:, :, :, ::last]), dim=2)
        points = windows.positions(border.expand(count * tries, -1, -1, -1))
        # All windows of an image side by side, since they share its deformation.
        points = points.unflatten(0, (count, tries)).transpose(1, 2).flatten(2, 3)
        sampled = points + deformation.displacement(points)
        sampled = sampled.unflatten(2, (tries, -1)).transpose(1, 2).flatten(0, 1)
        accepted = windows.inside(sampled).flatten(1).all(dim=1).view(count, tries) | band_allowed[:, None]
        accepted[:, -1] = True
        chosen = accepted.int().argmax(dim=1)  # the first of the largest
        return windows[torch.arange(count, device=self.device) * tries + chosen]

    def _sample(self, index: Tensor, window: Window, points: Tensor) -> Tensor:
        """Sample images ``index`` at ``points`` ``(B, 2, h, w)`` of the whole image: ``(B, 4, h, w)`` in [0, 1]."""
        level = (window.zoom * self.config.scale).log2().round().clamp(0, LEVELS - 1).long()
        return self.images.sample(index, level, self.images.positions(index, level, window.sizes, points))

    def deformed(self, size: int, counterparts: bool = True) -> tuple[Batch, Tensor]:
        """Draw ``size`` deformed crops for stages R and RF; return the batch and the images' indices in ``names``.

        With ``counterparts`` (stage RF) the batch has 2 ``size`` pairs: pair i is (warped IR, VI), pair i + ``size``
        its counterpart (IR, warped VI), the same crop with the deformation on the other image. Without (stage R), it
        has ``size`` pairs, of ``size`` different crops: IR is warped in the first half, VI in the second.

        The batch holds ``ir`` and ``y`` (the luminance of VI), ``(N, 1, c, c)`` in [0, 1]; ``target_ir`` and
        ``target_y``, likewise, what IR shows in VI's frame and VI in IR's; ``match_ir`` ``(N, 1, c, c)`` and
        ``match_vi`` ``(N, 3, c, c)``, the images for the matcher: with photometric augmentation, and in a share of the
        pairs one of them made up from the other; ``flow_ir2vi`` and ``flow_vi2ir`` ``(N, 2, c, c)``, the true flows in
        pixels that warp IR onto VI and VI onto IR; ``valid_ir2vi`` and ``valid_vi2ir`` ``(N, 1, c, c)``, 1 where both
        the pixel and its partner have image content.
        """
        config, index = self.config, self._pick(size, len(self.shares))
        whole, turns = self.whole[index], self._draw_turns(size)
        draws = self._uniform(3, size)
        band_allowed, residual, wide = draws[0] < config.band, draws[1] < config.residual, draws[2] < config.wide
        ranges = Ranges(config.rotation, config.translation, config.shear, elastic=config.elastic)
        affine = torch.where(residual, _RESIDUAL, 1.0)
        deformation = random_deformation(
            size, self.frame, ranges, self.generator, whole.flip(1), affine, wide & ~residual
        )
        window = self._place_windows(whole, turns, deformation, band_allowed)
        p = window.positions(self._grid(size))
        d, phi = deformation.displacement(p), deformation.inverse_displacement(p, _INVERSE_ITERATIONS)
        content = window.inside(p + d)
        still, warped = (self._sample(index, window, points) for points in (p, p + d))
        warped, content = warped * content, content.float()

        register, deform = window.into_crop(phi), window.into_crop(d)
        # A partner is visible if it is inside the crop and, in the warped image, not adjacent to the black band.
        valid_register = (warp(content, register) > 0.999).float()
        valid_deform = valid_mask(deform)

        def pairs(first: Tensor, second: Tensor) -> Tensor:
            """Join ``first``, what holds where IR is warped, and ``second``, where VI is warped."""
            return torch.cat((first, second) if counterparts else (first[: size // 2], second[size // 2 :]))

        ir, vi = pairs(warped, still), pairs(still, warped)
        whole_content = torch.ones_like(content)
        alone = pairs(index, index) >= self.first_alone
        match_ir, match_vi = self._matched(ir, vi, alone)
        batch = {
            "ir": ir[:, :1],
            "y": luminance(vi[:, 1:]),
            "target_ir": vi[:, :1],
            "target_y": luminance(ir[:, 1:]),
            "match_ir": match_ir * pairs(content, whole_content),
            "match_vi": match_vi * pairs(whole_content, content),
            "flow_ir2vi": pairs(register, deform),
            "flow_vi2ir": pairs(deform, register),
            "valid_ir2vi": pairs(valid_register, valid_deform),
            "valid_vi2ir": pairs(valid_deform, valid_register),
        }
        return batch, index

    def _matched(self, ir: Tensor, vi: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        """Make the images to match, IR ``(N, 1, c, c)`` and VI ``(N, 3, c, c)``, from all channels in either frame.

        Pairs marked ``alone`` ``(N,)`` have one modality only.
        """
        match_ir, match_vi = ir[:, :1], vi[:, 1:]
        if self.config.other_modality or self.config.ir_sets:
            made_up = (self._uniform(len(ir)) < self.config.other_modality) | alone
            from_ir = self._uniform(len(ir)) < 0.5
            made_of_ir = other_modality(vi[:, :1].expand(-1, 3, -1, -1), self.generator).expand(-1, 3, -1, -1)
            made_of_vi = other_modality(ir[:, 1:], self.generator)
            match_vi = torch.where((made_up & from_ir).view(-1, 1, 1, 1), made_of_ir, match_vi)
            match_ir = torch.where((made_up & ~from_ir).view(-1, 1, 1, 1), made_of_vi, match_ir)
        return photometric("ir", match_ir, self.generator), photometric("vi", match_vi, self.generator)

    def aligned(self, size: int) -> tuple[Batch, Tensor]:
        """Draw ``size`` aligned crops of ``config.sets`` for stages F, FS and SEG; return the batch and the indices.

        The batch holds ``ir`` and ``target_ir`` ``(B, 1, c, c)`` and ``vi`` ``(B, 3, c, c)`` in [0, 1] and, if labels
        were read, ``label`` ``(B, c, c)`` int64. At scale and zoom 1 crops are aligned to whole pixels, so that
        interpolation does not blur. ``ir`` is ``target_ir`` but in the share ``config.registered``, where it is out of
        line and interpolated as after a registration.
        """
        index = self._pick(size, len(self.config.sets))
        window = self._draw_windows(self.whole[index], self._draw_turns(size), torch.ones(size, device=self.device))
        if self.config.scale == 1 and self.config.zoom == (1.0, 1.0):
            window.matrix[:, :, 2].round_()
        points = window.positions(self._grid(size))
        crops = self._sample(index, window, points)
        ir = crops[:, :1]
        batch = {"ir": ir, "target_ir": ir, "vi": crops[:, 1:]}
        if self.config.registered:
            chosen = self._uniform(size) < self.config.registered
            left = random_deformation(size, self.frame, REGISTERED, self.generator, self.whole[index].flip(1))
            registered = self._sample(index, window, points + left.displacement(points))[:, :1]
            batch["ir"] = torch.where(chosen.view(-1, 1, 1, 1), registered, ir)
        if self.labels:
            largest = torch.zeros_like(index)
            positions = self.images.positions(index, largest, window.sizes, points)
            batch["label"] = self.images.classes_at(index, positions)
        return batch, index
