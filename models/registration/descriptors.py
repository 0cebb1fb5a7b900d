"""Describe a pair of images at one scale by structure, and compare the descriptors under a displacement.

The descriptors (:func:`mind`) are insensitive to the modality's rendering of a surface. Agreement is their normalised
correlation over the content that both images share.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import blur, gaussian_kernel
from models.structural_inputs import central_differences
from models.warping import content_mask, pixel_grid, resize, sample

NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
# The other four compare the same two patches as their opposites, from the other patch's position.
HALF = NEIGHBOURS[:4]
# Descriptors look 3 px around (the neighbour's patch), their gradients one more; the pixel next to a band is mixed.
_SUPPORT = 5
_DOUBLING = (1, 2, 4, 3)  # shifts that combine to all of 0 to 2 * _SUPPORT, each applied to the result of those before
# A correlation below this may come from a wrong position as well as from noise (:meth:`Level.normal_equations`).
_NOISIEST = 0.4
# Smallest overlap, as a share of VI's content: correlations over a tiny overlap are high by chance.
SMALLEST_OVERLAP = 0.5
# Descriptor energy a pixel (of 0.1 or so in real structure) below which a correlation counts as none.
_ENERGY_FLOOR = 1e-6


def mind(gray: Tensor, sigma: float = 0.7, neighbours: tuple[tuple[int, int], ...] = NEIGHBOURS) -> Tensor:
    """Compute the modality-independent neighbourhood descriptor ``(B, 8, H, W)`` of ``(B, 1, H, W)`` in [0, 1].

    Each channel, in (0, 1], is the similarity of the patch (a Gaussian of ``sigma`` px) around one of the eight
    neighbours to the patch around the pixel, relative to their mean difference, and invariant to gain, offset and
    inversion of the contrast. Heinrich et al.,
    "MIND: Modality independent neighbourhood descriptor for multi-modal deformable registration", Medical Image
    Analysis 16(7), 2012, with their bounds on the local variance and their scaling to a maximum of 1.
    """
    height, width = gray.shape[-2:]
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    shifted = [padded[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in neighbours]
    difference = (torch.cat(shifted, dim=1) - gray).square()
    distance = blur(difference, gaussian_kernel(2 * math.ceil(2.5 * sigma) + 1, sigma), border="replicate")
    variance = distance.mean(dim=1, keepdim=True)
    typical = variance.mean(dim=(2, 3), keepdim=True)
    variance = torch.minimum(torch.maximum(variance, 1e-3 * typical), 1e3 * typical) + 1e-7
    resemblance = torch.exp(-distance / variance)
    return resemblance / resemblance.amax(dim=1, keepdim=True)


class Frame:
    """Convert pixels of an image of ``size`` (height, width), resized from ``full``, to points and back."""

    def __init__(self, size: tuple[int, int], full: tuple[int, int], like: Tensor):
        height, width = size
        self.grid = pixel_grid(height, width, like)
        self.scale = max(full) / 2 * like.new_tensor([width / full[1], height / full[0]]).view(1, 2, 1, 1)
        self.centre = like.new_tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
        self.points = (self.grid - self.centre) / self.scale

    def corners(self) -> Tensor:
        """Return the four corners as points ``(4, 2)``."""
        return self.points[0, :, :: self.points.shape[2] - 1, :: self.points.shape[3] - 1].flatten(1).T

    def pixels(self, maps: Tensor) -> Tensor:
        """Map the pixels by N affine maps ``(N, 2, 3)`` or homographies ``(N, 3, 3)``: pixels ``(N, 2, h, w)``."""
        points = maps[:, :, :2] @ self.points.flatten(2) + maps[:, :, 2:]
        if maps.shape[1] == 3:
            points = points[:, :2] / points[:, 2:].clamp(min=1e-6)
        return points.view(-1, *self.grid.shape[1:]) * self.scale + self.centre


@dataclass(frozen=True)
class Level:
    """A pair at one scale: descriptors ``(1, 8, h, w)`` without their mean, and masks ``(1, 1, h, w)``, 1 where a
    descriptor depends on content alone. There may be several of IR; they extend ``margin`` px beyond VI's frame.
    """

    ir: Tensor
    ir_mask: Tensor
    vi: Tensor
    vi_mask: Tensor
    frame: Frame
    margin: int = 0
    smallest_overlap: float = SMALLEST_OVERLAP

    @cached_property
    def _vi_energy(self) -> Tensor:
        return _dot(self.vi, self.vi)

    def ir_at(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Sample IR's descriptors ``(N, 8, h, w)`` at ``pixels`` ``(N, 2, h, w)``, and its mask ``(N, 1, h, w)``."""
        pixels = pixels + self.margin
        descriptors = sample(self.ir.expand(len(pixels), -1, -1, -1), pixels)
        inside = sample(self.ir_mask.expand(len(pixels), -1, -1, -1), pixels) > 0.99
        return descriptors, inside.to(descriptors.dtype)

    def compare(self, pixels: Tensor) -> "Comparison":
        """Compare IR, sampled at ``pixels`` ``(N, 2, h, w)``, with VI."""
        ir, inside = self.ir_at(pixels)
        mask = inside * self.vi_mask
        product, ir_energy, vi_energy = (
            (x * mask).sum((1, 2, 3)) for x in (_dot(ir, self.vi), _dot(ir, ir), self._vi_energy)
        )
        overlap = mask.sum((1, 2, 3))
        value = correlation(product, ir_energy, vi_energy, overlap, self.vi_mask.sum() * self.smallest_overlap)
        gain = (vi_energy / ir_energy.clamp(min=_ENERGY_FLOOR)).sqrt().view(-1, 1, 1, 1)
        return Comparison(
            ir * gain, mask / overlap.clamp(min=1).view(-1, 1, 1, 1), value, vi_energy / overlap.clamp(min=1)
        )

    def normal_equations(self, compared: "Comparison") -> tuple[Tensor, Tensor]:
        """Return Gauss-Newton terms of half the mean squared descriptor difference for displacements of each pixel.

        These are each pixel's second derivatives ``(N, 3, h, w)`` with respect to xx, xy and yy, and its gradient
        ``(N, 2, h, w)``. Derivatives are the mean of both images' (Malis, "Improving vision-based control using
        efficient second-order minimization techniques", ICRA 2004), which converges faster and from farther than
        those of either.

        Noise inflates these second derivatives, and steps fall short: where the derivatives of both images correlate
        by r, those of their mean have (1 + r) / 2 of the energy, but only r of it is common to both. So the second
        derivatives are scaled by 2 r / (1 + r), with the descriptors' correlation for r.
        """
        both, difference = compared.ir + self.vi, compared.ir - self.vi  # twice the mean
        dx, dy = central_differences(both)
        second = torch.cat([_dot(a, b) for a, b in ((dx, dx), (dx, dy), (dy, dy))], dim=1)
        first = torch.cat([_dot(a, difference) for a in (dx, dy)], dim=1)
        common = compared.correlation.clamp(min=_NOISIEST).view(-1, 1, 1, 1)
        return second * (compared.weight * common / (2 + 2 * common)), first * (compared.weight / 2)


@dataclass(frozen=True)
class Comparison:
    """IR's descriptors ``(N, 8, h, w)`` brought to VI's energy, each pixel's ``weight`` ``(N, 1, h, w)``, of sum 1, the
    normalised ``correlation`` ``(N,)`` and the descriptors' ``energy`` ``(N,)`` a pixel.

    Half the mean squared difference of these descriptors is ``energy`` (1 - ``correlation``).
    """

    ir: Tensor
    weight: Tensor
    correlation: Tensor
    energy: Tensor

    def where(self, keep: Tensor, other: "Comparison") -> "Comparison":
        """Select this one where ``keep`` ``(N,)``, ``other`` elsewhere."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("ir", "weight", "correlation", "energy"))
        return Comparison(*(torch.where(keep.view(-1, *(1,) * (a.dim() - 1)), a, b) for a, b in pairs))


@dataclass(frozen=True, eq=False)
class Picture:
    """A gray image ``(1, 1, h, w)`` in [0, 1] and its ``content`` ``(1, 1, h, w)``, 1 where it shows something;
    ``full`` is the (height, width) of the file that it was shrunk from.
    """

    gray: Tensor
    content: Tensor
    full: tuple[int, int]
    _smaller: dict[tuple[int, ...], "Picture"] = field(default_factory=dict, repr=False)
    _described: dict[tuple, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(gray: Tensor) -> "Picture":
        return Picture(gray, content_mask(gray), (gray.shape[-2], gray.shape[-1]))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.gray.shape[-2], self.gray.shape[-1]

    def shrink(self, side: float) -> "Picture":
        """Reduce the longer side to ``side`` px if the file's is larger; each side keeps at least 1 px.

        The same size gives the same picture.
        """
        size = tuple(max(1, round(n * min(1, side / max(self.full)))) for n in self.full)
        if size == self.size:
            return self
        if size not in self._smaller:
            gray, content = (resize(image, size) for image in (self.gray, self.content))
            self._smaller[size] = Picture(gray, content, self.full)
        return self._smaller[size]

    def describe(self, neighbours: tuple[tuple[int, int], ...] = NEIGHBOURS) -> tuple[Tensor, Tensor]:
        """Compute :func:`describe` of the picture, once."""
        if neighbours not in self._described:
            self._described[neighbours] = describe(self.gray, self.content, neighbours)
        return self._described[neighbours]

    @property
    def frame(self) -> Frame:
        return Frame(self.size, self.full, self.gray)


def describe(
    gray: Tensor, content: Tensor, neighbours: tuple[tuple[int, int], ...] = NEIGHBOURS
) -> tuple[Tensor, Tensor]:
    """Compute descriptors ``(N, 8, h, w)`` of ``gray`` ``(N, 1, h, w)`` minus their mean, and their mask
    ``(N, 1, h, w)``, 1 where they depend on ``content`` ``(N, 1, h, w)`` alone.
    """
    mask = _eroded(content >= 0.999).to(gray.dtype)
    descriptors = mind(gray, neighbours=neighbours)
    mean = (descriptors * mask).sum((2, 3), keepdim=True) / mask.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return descriptors - mean, mask


def _eroded(inside: Tensor) -> Tensor:
    """Erode the bool mask ``(N, 1, h, w)`` by a square of ``_SUPPORT`` px; outside the image nothing is inside."""
    inside = F.pad(inside, (_SUPPORT,) * 4)
    for dim in (2, 3):
        for step in _DOUBLING:
            kept = inside.shape[dim] - step
            inside = inside.narrow(dim, 0, kept) & inside.narrow(dim, step, kept)
    return inside


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum over channels the product, ``(N, 1, h, w)``, in half the time of ``(a * b).sum(1)``, which writes it out."""
    total = a[:, :1] * b[:, :1]
    for x, y in zip(a[:, 1:].split(1, dim=1), b[:, 1:].split(1, dim=1)):
        total.addcmul_(x, y)
    return total


def correlation(product: Tensor, ir_energy: Tensor, vi_energy: Tensor, overlap: Tensor, smallest: Tensor) -> Tensor:
    """Compute the normalised correlation from sums over ``overlap`` pixels; -inf where ``overlap`` <= ``smallest``."""
    floor = _ENERGY_FLOOR * overlap.clamp(min=1)
    value = product / ((ir_energy.clamp(min=0) + floor) * (vi_energy.clamp(min=0) + floor)).sqrt()
    return torch.where(overlap > smallest, value, -torch.inf)
