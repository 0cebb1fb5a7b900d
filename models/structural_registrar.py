"""Registration without training: one affine map between the structural descriptors of IR and VI.

A baseline for the matcher, and a fallback for cameras it was never trained on. Both images become descriptors that do
not depend on how a modality renders a surface (:func:`mind`). An exhaustive search over rotations and translations
gives the starting points, Gauss-Newton turns the best of them into affine maps, coarse to fine. Everything maximises
the normalised correlation of the descriptors over the content that the two images share, less what the map is
improbable by: where the images say little, two cameras are rather shifted and turned than sheared.

An affine map is a ``(N, 2, 3)`` tensor that takes points of the VI frame to points of the IR image, both measured
from the image's centre in units of half its longer side, so that it is the same at every scale.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import blur, gaussian_kernel
from models.structure import central_differences
from models.superfusion import check_pair, registration
from models.warping import content_mask, pixel_grid, sample
from utils.colour import luminance

_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
# Descriptors look 3 px around (the neighbour's patch), their gradients one more; the pixel next to a band is mixed.
_SUPPORT = 5
# Of VI's content. A map that leaves less could win by comparing next to nothing; above it, overlap earns nothing.
_SMALLEST_OVERLAP = 0.5
_ROTATION_STEP = 3.0  # degrees; the fit bridges half of it with ease
_STARTS = 4
_ITERATIONS = 12
# What an improbable map loses in correlation: so much times the square of its change of scale and of its shear, and of
# its shift (in half longer sides) and its rotation (in radians). Two percent of scale cost 0.012, seven degrees 0.015.
_STIFFNESS, _RELUCTANCE = 30.0, 1.0
# Scale times cosine and sine of the rotation, the two shears and the shift, from the six numbers of a map.
_PARTS = (
    (0.5, 0, 0, 0, 0.5, 0),
    (0, -0.5, 0, 0.5, 0, 0),
    (0.5, 0, 0, 0, -0.5, 0),
    (0, 0.5, 0, 0.5, 0, 0),
    (0, 0, 1, 0, 0, 0),
    (0, 0, 0, 0, 0, 1),
)
# Descriptor energy a pixel (of 0.1 or so in real structure) below which a correlation counts as none.
_ENERGY_FLOOR = 1e-6


def mind(gray: Tensor, sigma: float = 0.7) -> Tensor:
    """Modality-independent neighbourhood descriptor of ``(B, 1, H, W)`` in [0, 1]: ``(B, 8, H, W)`` in (0, 1].

    How much the patch (a Gaussian of ``sigma`` px) around each of the eight neighbours resembles the patch around the
    pixel, relative to their mean difference: blind to gain, offset and inversion of the contrast. Heinrich et al.,
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
    """The pixels of an image of ``size`` (height, width), resized from ``full``, as points and back."""

    def __init__(self, size: tuple[int, int], full: tuple[int, int], like: Tensor):
        height, width = size
        self.grid = pixel_grid(height, width, like)
        self.scale = max(full) / 2 * like.new_tensor([width / full[1], height / full[0]]).view(1, 2, 1, 1)
        self.centre = like.new_tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
        self.points = (self.grid - self.centre) / self.scale

    def pixels(self, affine: Tensor) -> Tensor:
        """Where N maps ``(N, 2, 3)`` take the pixels, in pixels: ``(N, 2, h, w)``."""
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

    def ir_at(self, affine: Tensor) -> tuple[Tensor, Tensor]:
        """IR's descriptors ``(N, 8, h, w)`` where N maps take VI's pixels, and IR's mask ``(N, 1, h, w)`` there."""
        pixels = self.frame.pixels(affine)
        descriptors = sample(self.ir.expand(len(affine), -1, -1, -1), pixels)
        inside = sample(self.ir_mask.expand(len(affine), -1, -1, -1), pixels) > 0.99
        return descriptors, inside.to(descriptors.dtype)


def make_level(ir: Tensor, vi: Tensor, side: int) -> Level:
    """The :class:`Level` of gray images ``(1, 1, H, W)``, shrunk to a longer side of ``side`` px if they are larger."""
    full = tuple(vi.shape[-2:])
    size = tuple(round(n * min(1, side / max(full))) for n in full)

    def shrink(image: Tensor) -> Tensor:
        return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)

    def describe(gray: Tensor) -> tuple[Tensor, Tensor]:
        band = F.pad((shrink(content_mask(gray)) < 0.999).to(gray.dtype), (_SUPPORT,) * 4, value=1.0)
        mask = 1 - F.max_pool2d(band, 2 * _SUPPORT + 1, stride=1)
        descriptors = mind(shrink(gray))
        mean = (descriptors * mask).sum((2, 3), keepdim=True) / mask.sum().clamp(min=1)
        return descriptors - mean, mask

    (ir, ir_mask), (vi, vi_mask) = describe(ir), describe(vi)
    return Level(ir, vi, ir_mask, vi_mask, Frame(size, full, vi))


def correlation(product: Tensor, ir_energy: Tensor, vi_energy: Tensor, overlap: Tensor, content: Tensor) -> Tensor:
    """Normalised correlation from sums over an overlap of so many pixels; -inf where it is too small a part of
    VI's ``content``.
    """
    floor = _ENERGY_FLOOR * overlap.clamp(min=1)
    value = product / ((ir_energy.clamp(min=0) + floor) * (vi_energy.clamp(min=0) + floor)).sqrt()
    return torch.where(overlap > _SMALLEST_OVERLAP * content, value, -torch.inf)


def improbable(affine: Tensor) -> tuple[Tensor, Tensor]:
    """What makes N maps ``(N, 2, 3)`` improbable: deviations ``(N, 6)`` whose squares add up to what they lose in
    correlation, and their derivatives ``(N, 6, 6)`` with respect to the maps' six numbers. 0 for the identity.
    """
    weights = affine.new_tensor([_STIFFNESS, _RELUCTANCE, _STIFFNESS, _STIFFNESS, _RELUCTANCE, _RELUCTANCE]).sqrt()
    parts = affine.new_tensor(_PARTS)
    values, slopes = affine.flatten(1) @ parts.T, parts.repeat(len(affine), 1, 1)
    cosine, sine = values[:, :1], values[:, 1:2]
    scale = torch.hypot(cosine, sine)
    values = torch.cat((scale - 1, values[:, 1:]), dim=1)
    slopes[:, 0] = (cosine * parts[0] + sine * parts[1]) / scale
    return weights * values, weights[:, None] * slopes


def search(level: Level, rotation: float, translation: float) -> Tensor:
    """Starting points ``(N, 2, 3)``, best first: for every rotation, the translation of the highest correlation; and
    the identity.

    Rotations reach ``rotation`` degrees to either side, translations ``translation`` of the longer side, in steps of
    a pixel. All translations of one rotation are correlated at once by FFT, overlap and energies included.
    """
    steps = math.ceil(rotation / _ROTATION_STEP)
    angles = torch.linspace(-rotation, rotation, 2 * steps + 1, device=level.vi.device).deg2rad()
    linear = torch.stack((angles.cos(), -angles.sin(), angles.sin(), angles.cos()), dim=1).view(-1, 2, 2)
    ir, ir_mask = level.ir_at(torch.cat((linear, torch.zeros_like(linear[:, :, :1])), dim=2))
    vi, vi_mask = level.vi, level.vi_mask

    height, width = vi.shape[-2:]
    reach = math.ceil(translation * max(height, width))
    padded = (height + reach, width + reach)  # keeps shifts up to the reach from wrapping around

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        """Sum over channels and pixels p of ``a(p + t) b(p)``; t = -reach .. reach along y and x."""
        spectrum = (torch.fft.rfft2(a, padded) * torch.fft.rfft2(b, padded).conj()).sum(1)
        shifted = torch.fft.irfft2(spectrum, padded).roll((reach, reach), (-2, -1))
        return shifted[:, : 2 * reach + 1, : 2 * reach + 1]

    value = correlation(
        correlate(ir * ir_mask, vi * vi_mask),
        correlate(ir.square().sum(1, keepdim=True) * ir_mask, vi_mask),
        correlate(ir_mask, vi.square().sum(1, keepdim=True) * vi_mask),
        correlate(ir_mask, vi_mask),
        vi_mask.sum(),
    )
    best, index = value.flatten(1).max(dim=1)
    shift = torch.stack((index % (2 * reach + 1), index // (2 * reach + 1)), dim=1) - reach
    shift = linear @ (shift[:, :, None] / level.frame.scale.view(1, 2, 1))
    identity = torch.eye(2, 3, device=linear.device)[None]
    candidates = torch.cat((identity, torch.cat((linear, shift), dim=2)))
    best = torch.cat((value[steps, reach, reach][None], best)) - improbable(candidates)[0].square().sum(1)
    return candidates[best.argsort(descending=True, stable=True)]


def fit(level: Level, affine: Tensor) -> tuple[Tensor, Tensor]:
    """Maximise the value of N maps ``(N, 2, 3)``, their correlation less what they are improbable by, by damped
    Gauss-Newton; returns the maps and their values ``(N,)``.

    It minimises the squared difference of descriptors brought to equal energy, which is as good as maximising their
    correlation. The gradient is the
    mean of both images' (Malis, "Improving vision-based control using efficient second-order minimization
    techniques", ICRA 2004), which converges faster and from farther than the gradient of either.
    """
    vi, points, scale = level.vi, level.frame.points, level.frame.scale
    basis = torch.cat((points, torch.ones_like(points[:, :1])), dim=1).flatten(2)[0]
    products = (basis[:, None] * basis[None]).flatten(0, 1)
    vi_gradient = central_differences(vi)
    damping = vi.new_full((len(affine), 1, 1), 1e-3)

    def evaluate(affine: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ir, inside = level.ir_at(affine)
        mask = inside * level.vi_mask
        sums = [(x * mask).sum((1, 2, 3)) for x in (ir * vi, ir.square(), vi.square())]
        value = correlation(*sums, mask.sum((1, 2, 3)), level.vi_mask.sum())
        gain = (sums[2] / sums[1].clamp(min=_ENERGY_FLOOR)).sqrt()
        energy = sums[2] / mask.sum((1, 2, 3)).clamp(min=1)  # a pixel: what a correlation of 1 is worth here
        return ir * gain.view(-1, 1, 1, 1), mask, value - improbable(affine)[0].square().sum(1), energy

    ir, mask, value, energy = evaluate(affine)
    for _ in range(_ITERATIONS):
        dx, dy = ((a + b) / 2 for a, b in zip(central_differences(ir), vi_gradient))
        dx, dy, difference = dx * scale[:, :1], dy * scale[:, 1:], ir - vi
        terms = torch.stack([(a * b).sum(1) for a, b in ((dx, dx), (dx, dy), (dy, dy))], dim=1)
        slopes = torch.stack([(a * difference).sum(1) for a in (dx, dy)], dim=1)
        weight = mask / mask.sum((1, 2, 3), keepdim=True).clamp(min=1)
        xx, xy, yy = ((terms * weight).flatten(2) @ products.T).view(-1, 3, 3, 3).unbind(1)
        hessian = torch.cat((torch.cat((xx, xy), dim=2), torch.cat((xy, yy), dim=2)), dim=1)
        gradient = ((slopes * weight).flatten(2) @ basis.T).view(-1, 6)
        deviations, derivatives = improbable(affine)
        gradient = gradient + energy[:, None] * (derivatives.mT @ deviations[:, :, None])[:, :, 0]
        hessian = hessian + energy[:, None, None] * (derivatives.mT @ derivatives)
        damped = hessian + damping * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
        damped = damped + 1e-9 * torch.eye(6, device=hessian.device)  # no structure, no step
        proposal = affine - torch.linalg.solve(damped, gradient).view_as(affine)

        new_ir, new_mask, new_value, new_energy = evaluate(proposal)
        better = new_value > value
        choose = better.view(-1, 1, 1, 1)
        affine = torch.where(better.view(-1, 1, 1), proposal, affine)
        ir, mask = torch.where(choose, new_ir, ir), torch.where(choose, new_mask, mask)
        value, energy = torch.where(better, new_value, value), torch.where(better, new_energy, energy)
        damping = torch.where(better.view(-1, 1, 1), damping / 3, damping * 10).clamp(1e-7, 1e7)
    return affine, value


class StructuralRegistrar:
    """Affine registration with the interface of :meth:`models.superfusion.SuperFusion.register`; nothing is learnt.

    ``rotation`` (degrees) and ``translation`` (share of the longer side) are the largest misalignment searched for,
    before the fit, which may go somewhat beyond. ``sides`` are the longer sides in pixels of the scales, coarse to
    fine; one more refines large images, for its price in time.
    """

    def __init__(self, rotation: float = 12.0, translation: float = 0.08, sides: tuple[int, ...] = (160, 320)):
        self.rotation, self.translation, self.sides = rotation, translation, sides

    @torch.no_grad()
    def register(self, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """Register ``ir`` to ``vi``, both ``(B, 1 or 3, H, W)`` in [0, 1], on any device.

        Returns ``registered``, the IR image warped onto VI's frame, with ``ir``'s channels; ``flow_ir2vi``
        ``(B, 2, H, W)``, the backward flow in pixels that does it; ``valid`` ``(B, 1, H, W)``, 1 where it sampled
        inside the IR image (elsewhere ``registered`` is 0); and ``agreement`` ``(B,)``, the normalised correlation of
        the descriptors that it reached, less what the map is improbable by, at most 1. Raises ValueError for other
        sizes.
        """
        check_pair(ir, vi)
        size = tuple(vi.shape[-2:])
        frame = Frame(size, size, vi)
        pairs = zip(luminance(ir).split(1), luminance(vi).split(1))
        affine, agreement = (torch.cat(parts) for parts in zip(*(self._affine(*pair) for pair in pairs)))
        return registration(ir, frame.pixels(affine) - frame.grid) | {"agreement": agreement}

    def _affine(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        coarse, *finer = (make_level(ir, vi, side) for side in self.sides)
        affine, value = fit(coarse, search(coarse, self.rotation, self.translation)[:_STARTS])
        affine, value = affine[value.argmax()][None], value.max()[None]
        for level in finer:
            affine, value = fit(level, affine)
        return affine, value
