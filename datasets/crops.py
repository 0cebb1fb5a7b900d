"""Training batches: crops of aligned pairs, either randomly deformed with their true flows, or undeformed with labels.

Whole images are kept in memory as 8-bit integers, and crops are sampled from them on the training device. A deformation
is drawn for the whole image; the crop is a window in it that may be mirrored, rotated and zoomed. Where the deformation
samples outside the original, the warped image has a black band, whose outline reveals the deformation. A window that
contains a part of the band is therefore redrawn, each time slightly smaller, except in a given share of the samples.
"""

import bisect
import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.augment import photometric
from datasets.deformation import Deformation, Ranges, apply_affine, apply_linear, random_deformation
from datasets.paired import Pair
from datasets.training_sets import Data, held_out, open_set
from models.warping import pixel_grid, resize, sample, valid_mask, warp
from utils.colour import luminance
from utils.errors import UserError

_WINDOW_TRIES = 24
_SMALLEST_WINDOW = 0.5  # factor on the zoom at the last try

# The fraction of the affine deformation that is assumed to remain after a first registration.
_RESIDUAL = 0.15


@dataclass
class ImageBatch:
    """The images of a batch: 8-bit channels IR, R, G, B and label, ``(B, C, H, W)``, padded with zeros to one size.

    ``whole`` and ``reduced`` ``(B, 2)`` are the images' (width, height) before and after the reduction by ``scale``.
    """

    names: list[str]
    images: Tensor
    whole: Tensor
    reduced: Tensor

    def positions(self, points: Tensor) -> Tensor:
        """Map ``points`` ``(B, 2, h, w)`` in the whole images to positions in ``images``, clamped to each image."""
        whole, reduced = (size.to(points).view(-1, 2, 1, 1) for size in (self.whole, self.reduced))
        return torch.minimum(((points + 0.5) * (reduced / whole) - 0.5).clamp(min=0), reduced - 1)


@dataclass
class Window:
    """The affine maps from a batch of crops to their images: crop pixel u is at position ``linear u + origin``."""

    matrix: Tensor  # (B, 2, 3): linear, origin
    inverse: Tensor  # (B, 2, 2): the inverse of linear
    sizes: Tensor  # (B, 2): width and height of the images

    def to(self, device: torch.device) -> "Window":
        return Window(self.matrix.to(device), self.inverse.to(device), self.sizes.to(device))

    def where(self, keep: Tensor, other: "Window") -> "Window":
        """Select these windows where ``keep`` ``(B,)`` is set, elsewhere those of ``other``, in the same images."""
        keep = keep.view(-1, 1, 1)
        matrix, inverse = torch.where(keep, self.matrix, other.matrix), torch.where(keep, self.inverse, other.inverse)
        return Window(matrix, inverse, self.sizes)

    def positions(self, grid: Tensor) -> Tensor:
        """Map crop pixels ``grid`` ``(B, 2, h, w)`` to image positions."""
        return apply_affine(self.matrix, grid)

    def into_crop(self, displacement: Tensor) -> Tensor:
        """Convert a displacement ``(B, 2, h, w)`` from image pixels to crop pixels."""
        return apply_linear(self.inverse, displacement)

    def inside(self, points: Tensor) -> Tensor:
        """Test whether image positions lie between the centres of the first and last pixels: ``(B, 1, h, w)`` bool."""
        last = (self.sizes - 1).view(-1, 2, 1, 1)
        return ((points >= 0) & (points <= last)).all(dim=1, keepdim=True)


class CropSampler:
    """Draw training batches on ``device`` from all sets of ``config``, kept in memory at ``config.scale``.

    With ``labels`` the label maps are read too, for :meth:`aligned`. ``seed`` determines every random choice;
    :meth:`state` and :meth:`restore` save and continue the random sequence. Raises UserError if a set cannot be read,
    if none of its pairs remains for training, or if an image is too small to crop.
    """

    def __init__(self, config: Data, seed: int, device: torch.device | str = "cpu", labels: bool = False):
        self.config, self.device, self.labels = config, torch.device(device), labels
        self.generator = torch.Generator().manual_seed(seed)
        # A separate seed, since with the same one both generators would draw the same numbers on a CPU.
        self.noise = torch.Generator(self.device).manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
        self.ranges = Ranges(config.rotation, config.translation, config.shear, config.elastic)
        self.sets = []
        for name in config.sets:
            pairs = open_set(config, name, labels)
            count = len(pairs) - held_out(config, len(pairs))
            if count < 1:
                raise UserError(f"{name}: data.hold_out leaves none of its {len(pairs)} pairs to train on")
            self.sets.append([self._load(pairs[i]) for i in range(count)])
        largest = max(side for pairs in self.sets for _, image, _ in pairs for side in image.shape[1:])
        if config.crop > largest:
            raise UserError(
                f"data.crop={config.crop} is larger than every image (at data.scale {largest} pixels at most)"
            )
        self.shares = list(itertools.accumulate(config.sets.values()))

    def state(self) -> dict[str, Tensor]:
        """Return the random state; :meth:`restore` continues from it exactly, on a device of the same type."""
        return {"generator": self.generator.get_state(), "noise": self.noise.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["generator"].cpu())
        # The pixel noise is drawn on the device; its generator cannot load the state of another type of device.
        if state["noise"].shape == self.noise.get_state().shape:
            self.noise.set_state(state["noise"].cpu())

    def _load(self, pair: Pair) -> tuple[str, Tensor, tuple[int, int]]:
        """Return the name, the 8-bit channels IR, R, G, B and label, and the size (width, height) before reduction."""
        pair = pair.in_vi_frame()
        height, width = pair.vi.shape[-2:]
        size = [round(side * self.config.scale) for side in (height, width)]
        if min(size) < 2:
            raise UserError(f"{pair.name}: {height}x{width} pixels are too few for crops at scale {self.config.scale}")
        images = torch.cat((pair.ir.mean(dim=0, keepdim=True), pair.vi.expand(3, -1, -1)))
        if size != [height, width]:
            images = resize(images[None], size)[0]
        channels = [(images * 255).round().to(torch.uint8)]
        if self.labels:
            label = F.interpolate(pair.label[None, None].float(), size, mode="nearest-exact")[0]
            channels.append(label.to(torch.uint8))
        return pair.name, torch.cat(channels), (width, height)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def _draw_images(self, size: int) -> ImageBatch:
        drawn = []
        for pick, place in self._uniform(size, 2).tolist():
            pairs = self.sets[min(bisect.bisect(self.shares, pick * self.shares[-1]), len(self.sets) - 1)]
            drawn.append(pairs[int(place * len(pairs))])
        names, images, whole = zip(*drawn)
        reduced = [(image.shape[2], image.shape[1]) for image in images]
        width, height = (max(sides) for sides in zip(*reduced))
        stacked = torch.zeros(size, images[0].shape[0], height, width, dtype=torch.uint8)
        for canvas, image in zip(stacked, images):
            canvas[:, : image.shape[1], : image.shape[2]] = image
        whole, reduced = (torch.tensor(sizes, dtype=torch.float32) for sizes in (whole, reduced))
        return ImageBatch(list(names), stacked.to(self.device), whole, reduced)

    def _draw_windows(self, sizes: Tensor, turns: Tensor, zoom_factor: float = 1.0) -> Window:
        """Draw windows in images of ``sizes`` (width, height), mirrored and rotated by ``turns`` ``(B, 2, 2)``."""
        config, count = self.config, len(sizes)
        zoom = self._uniform(count, low=config.zoom[0], high=config.zoom[1]) / config.scale
        zoom = torch.minimum(zoom, (sizes.amin(dim=1) - 1) / config.crop) * zoom_factor
        half = zoom[:, None] * (config.crop - 1) / 2
        centre = half + self._uniform(count, 2) * (sizes - 1 - 2 * half)
        linear = zoom.view(-1, 1, 1) * turns
        middle = torch.full((count, 2, 1), (config.crop - 1) / 2)
        matrix = torch.cat((linear, centre[:, :, None] - linear @ middle), dim=2)
        return Window(matrix, torch.linalg.inv(linear), sizes)

    def _draw_turns(self, count: int) -> Tensor:
        """Draw linear maps ``(B, 2, 2)``: horizontal flips or, with quarter turns, all eight symmetries of a square."""
        signs = torch.where(self._uniform(count, 2) < 0.5, -1.0, 1.0)
        if not self.config.quarter_turns:
            signs[:, 1] = 1
            return torch.diag_embed(signs)
        turns, swap = torch.diag_embed(signs), self._uniform(count, 1, 1) < 0.5
        return torch.where(swap, turns.flip(1), turns)

    def _grid(self, count: int) -> Tensor:
        """Return the pixel positions of ``count`` crops, ``(B, 2, c, c)``."""
        side = self.config.crop
        return pixel_grid(side, side, like=torch.zeros(1, device=self.device)).expand(count, -1, -1, -1)

    def _place_windows(self, sizes: Tensor, turns: Tensor, deformation: Deformation, band_allowed: Tensor) -> Window:
        """Draw windows, on the device; where no band is allowed, retry up to ``_WINDOW_TRIES`` times to avoid it."""
        grid = self._grid(len(sizes))
        # A window whose border samples inside the image samples inside it everywhere.
        border = torch.cat((grid[:, :, [0, -1]].transpose(2, 3), grid[:, :, :, [0, -1]]), dim=2)
        window, accepted = None, torch.zeros(len(sizes), dtype=torch.bool)
        for attempt in range(_WINDOW_TRIES):
            zoom_factor = 1 - (1 - _SMALLEST_WINDOW) * attempt / _WINDOW_TRIES
            candidate = self._draw_windows(sizes, turns, zoom_factor)
            window = candidate if window is None else window.where(accepted, candidate)
            device_window = window.to(self.device)
            points = device_window.positions(border)
            without_band = device_window.inside(points + deformation.displacement(points)).flatten(1).all(dim=1).cpu()
            accepted = accepted | without_band | band_allowed
            if accepted.all():
                break
        return device_window

    def deformed(self, size: int) -> tuple[dict[str, Tensor], list[str]]:
        """Draw ``size`` deformed crops for stage RF, as 2 ``size`` pairs; return the batch and the images' names.

        Pair i is (warped IR, VI), pair i + ``size`` its counterpart (IR, warped VI), the same crop with the deformation
        on the other image. The batch holds ``ir`` and ``y`` (the luminance of VI), ``(2B, 1, c, c)`` in [0, 1];
        ``match_ir`` ``(2B, 1, c, c)`` and ``match_vi`` ``(2B, 3, c, c)``, the same images with photometric
        augmentation, for the matcher; ``flow_ir2vi`` and ``flow_vi2ir`` ``(2B, 2, c, c)``, the true flows in pixels
        that warp IR onto VI and VI onto IR; ``valid_ir2vi`` and ``valid_vi2ir`` ``(2B, 1, c, c)``, 1 where both the
        pixel and its partner have image content.
        """
        drawn, turns = self._draw_images(size), self._draw_turns(size)
        band_allowed = self._uniform(size) < self.config.band
        affine = torch.where(self._uniform(size) < self.config.residual, _RESIDUAL, 1.0)
        deformation = random_deformation(size, drawn.whole.flip(1), self.ranges, self.generator, self.device, affine)
        window = self._place_windows(drawn.whole, turns, deformation, band_allowed)
        p = window.positions(self._grid(size))
        d, phi = deformation.displacement(p), deformation.inverse_displacement(p)
        content = window.inside(p + d)
        images = drawn.images[:, :4].float() / 255
        still, warped = (sample(images, drawn.positions(points), padding="border") for points in (p, p + d))
        warped = warped * content

        ir = torch.cat((warped[:, :1], still[:, :1]))
        vi = torch.cat((still[:, 1:], warped[:, 1:]))
        has_content = torch.cat((content, torch.ones_like(content)))
        match_ir = photometric("ir", ir, self.generator, self.noise) * has_content
        match_vi = photometric("vi", vi, self.generator, self.noise) * has_content.roll(size, 0)

        register, deform = window.into_crop(phi), window.into_crop(d)
        # A partner is visible if it is inside the crop and, in the warped image, not adjacent to the black band.
        valid_register = (warp(content.float(), register) > 0.999).float()
        valid_deform = valid_mask(deform)
        batch = {
            "ir": ir,
            "y": luminance(vi),
            "match_ir": match_ir,
            "match_vi": match_vi,
            "flow_ir2vi": torch.cat((register, deform)),
            "flow_vi2ir": torch.cat((deform, register)),
            "valid_ir2vi": torch.cat((valid_register, valid_deform)),
            "valid_vi2ir": torch.cat((valid_deform, valid_register)),
        }
        return batch, drawn.names

    def aligned(self, size: int) -> tuple[dict[str, Tensor], list[str]]:
        """Draw ``size`` aligned crops for stages F, FS and SEG; return the batch and the images' names.

        The batch holds ``ir`` ``(B, 1, c, c)`` and ``vi`` ``(B, 3, c, c)`` in [0, 1] and, if labels were read,
        ``label`` ``(B, c, c)`` int64. At scale and zoom 1 crops are aligned to whole pixels, so that interpolation does
        not blur.
        """
        drawn = self._draw_images(size)
        window = self._draw_windows(drawn.whole, self._draw_turns(size))
        if self.config.scale == 1 and self.config.zoom == (1.0, 1.0):
            window.matrix[:, :, 2].round_()
        positions = drawn.positions(window.to(self.device).positions(self._grid(size)))
        crops = sample(drawn.images[:, :4].float() / 255, positions, padding="border")
        batch = {"ir": crops[:, :1], "vi": crops[:, 1:]}
        if self.labels:
            # Nearest neighbour, since classes cannot be interpolated.
            label = sample(drawn.images[:, 4:].float(), positions.round(), padding="border")
            batch["label"] = label[:, 0].round().long()
        return batch, drawn.names
