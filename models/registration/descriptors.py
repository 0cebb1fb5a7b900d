"""Structural descriptors of a pair of images at one scale, and their normalised correlation under a displacement.

The descriptors (:func:`mind`) do not depend on how a modality renders a surface. The correlation is taken over the
content that both images share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import blur, gaussian_kernel
from models.structural_inputs import central_differences
from models.warping import pixel_grid, resize, sample

_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
# Descriptors look 3 px around (the neighbour's patch), their gradients one more; the pixel next to a band is mixed.
_SUPPORT = 5
# Smallest share of VI's content that a map must leave in common: with less it could win by comparing next to nothing.
_SMALLEST_OVERLAP = 0.5
# Energy of the descriptors per pixel below which a correlation is noise; real structure has about 0.1.
_ENERGY_FLOOR = 1e-6


def mind(gray: Tensor, sigma: float = 0.7) -> Tensor:
    """Modality-independent neighbourhood descriptor of ``(B, 1, H, W)`` in [0, 1]: ``(B, 8, H, W)`` in (0, 1].

    Channel n is ``exp(-D_n / V)``: D_n is the squared difference of the patches (Gaussians of ``sigma`` px) around the
    pixel and its n-th neighbour, V the mean of D over the eight neighbours. It is invariant to gain, offset and
    inversion of the contrast. Heinrich et al.,
    "MIND: Modality independent neighbourhood descriptor for multi-modal deformable registration", Medical Image
    Analysis 16(7), 2012, with their bounds on the local variance and their scaling to a maximum of 1.
    """
    height, width = gray.shape[-2:]
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    shifted = [padded[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in _NEIGHBOURS]
    difference = (torch.cat(shifted, dim=1) - gray).square()
    distance = blur(difference, gaussian_kernel(2 * math.ceil(2.5 * sigma) + 1, sigma), border="replicate")
    variance = distance.mean(dim=1, keepdim=True)
    typical = variance.mean(dim=(2, 3), keepdim=True)
    variance = torch.minimum(torch.maximum(variance, 1e-3 * typical), 1e3 * typical) + 1e-7
    resemblance = torch.exp(-distance / variance)
    return resemblance / resemblance.amax(dim=1, keepdim=True)


class Frame:
    """Conversion between the pixels of an image of ``size`` (height, width), resized from ``full``, and points."""

    def __init__(self, size: Sequence[int], full: Sequence[int], like: Tensor):
        height, width = size
        self.grid = pixel_grid(height, width, like)
        self.scale = max(full) / 2 * like.new_tensor([width / full[1], height / full[0]]).view(1, 2, 1, 1)
        self.centre = like.new_tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
        self.points = (self.grid - self.centre) / self.scale

    def pixels(self, affine: Tensor) -> Tensor:
        """Map the pixels by N maps ``(N, 2, 3)``; returns pixel positions ``(N, 2, h, w)``."""
        points = affine[:, :, :2] @ self.points.flatten(2) + affine[:, :, 2:]
        return points.view(-1, *self.grid.shape[1:]) * self.scale + self.centre


@dataclass(frozen=True)
class Level:
    """A pair at one scale: descriptors ``(1, 8, h, w)`` without their mean, and masks ``(1, 1, h, w)``, 1 where a
    descriptor depends on content alone.
    """

    ir: Tensor
    vi: Tensor
    ir_mask: Tensor
    vi_mask: Tensor
    frame: Frame

    def ir_at(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """IR's descriptors ``(N, 8, h, w)`` at ``pixels`` ``(N, 2, h, w)``, and IR's mask ``(N, 1, h, w)`` there."""
        descriptors = sample(self.ir.expand(len(pixels), -1, -1, -1), pixels)
        inside = sample(self.ir_mask.expand(len(pixels), -1, -1, -1), pixels) > 0.99
        return descriptors, inside.to(descriptors.dtype)

    def compare(self, pixels: Tensor) -> "Comparison":
        """Compare IR, sampled at ``pixels`` ``(N, 2, h, w)``, with VI."""
        ir, inside = self.ir_at(pixels)
        mask = inside * self.vi_mask
        product, ir_energy, vi_energy = (
            (x * mask).sum((1, 2, 3)) for x in (ir * self.vi, ir.square(), self.vi.square())
        )
        overlap = mask.sum((1, 2, 3))
        value = correlation(product, ir_energy, vi_energy, overlap, self.vi_mask.sum())
        gain = (vi_energy / ir_energy.clamp(min=_ENERGY_FLOOR)).sqrt().view(-1, 1, 1, 1)
        return Comparison(
            ir * gain, mask / overlap.clamp(min=1).view(-1, 1, 1, 1), value, vi_energy / overlap.clamp(min=1)
        )

    def normal_equations(self, compared: "Comparison") -> tuple[Tensor, Tensor]:
        """Gauss-Newton terms of half the mean squared difference of descriptors, for a displacement of each pixel.

        Returns each pixel's second derivatives ``(N, 3, h, w)`` with respect to xx, xy and yy, and its gradient
        ``(N, 2, h, w)``. Derivatives are the mean of both images' (Malis, "Improving vision-based control using
        efficient second-order minimization techniques", ICRA 2004), which converges faster and from farther than
        those of either.
        """
        both = zip(central_differences(compared.ir), central_differences(self.vi))
        (dx, dy), difference = ((a + b) / 2 for a, b in both), compared.ir - self.vi
        second = torch.stack([(a * b).sum(1) for a, b in ((dx, dx), (dx, dy), (dy, dy))], dim=1)
        first = torch.stack([(a * difference).sum(1) for a in (dx, dy)], dim=1)
        return second * compared.weight, first * compared.weight


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
        """This one where ``keep`` ``(N,)``, ``other`` elsewhere."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("ir", "weight", "correlation", "energy"))
        return Comparison(*(torch.where(keep.view(-1, *(1,) * (a.dim() - 1)), a, b) for a, b in pairs))


def make_level(ir: Tensor, vi: Tensor, ir_content: Tensor, vi_content: Tensor, side: int) -> Level:
    """The :class:`Level` of gray images, downsampled to a longer side of ``side`` px if they are larger.

    The images and their content masks (:func:`models.warping.content_mask`) are ``(1, 1, H, W)``.
    """
    full = tuple(vi.shape[-2:])
    size = tuple(round(n * min(1, side / max(full))) for n in full)

    def describe(gray: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        band = F.pad((resize(content, size) < 0.999).to(gray.dtype), (_SUPPORT,) * 4, value=1.0)
        mask = 1 - F.max_pool2d(band, 2 * _SUPPORT + 1, stride=1)
        descriptors = mind(resize(gray, size))
        mean = (descriptors * mask).sum((2, 3), keepdim=True) / mask.sum().clamp(min=1)
        return descriptors - mean, mask

    (ir, ir_mask), (vi, vi_mask) = describe(ir, ir_content), describe(vi, vi_content)
    return Level(ir, vi, ir_mask, vi_mask, Frame(size, full, vi))


def correlation(product: Tensor, ir_energy: Tensor, vi_energy: Tensor, overlap: Tensor, content: Tensor) -> Tensor:
    """Normalised correlation from sums over ``overlap`` pixels; -inf where that is too small a share of ``content``."""
    floor = _ENERGY_FLOOR * overlap.clamp(min=1)
    value = product / ((ir_energy.clamp(min=0) + floor) * (vi_energy.clamp(min=0) + floor)).sqrt()
    return torch.where(overlap > _SMALLEST_OVERLAP * content, value, -torch.inf)
