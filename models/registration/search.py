"""Search exhaustively for similarity maps from a VI image to an IR image of another camera. Nothing is learnt.

IR is resampled to a grid of scales and rotations. Each of these templates is correlated with VI at all shifts by FFT:
the normalised correlation of descriptors over the overlap. The best distinct maps are scored
again with all channels of the descriptors at one scale; the best of these are hypotheses for
:mod:`models.registration.affine`.

Maps are homographies ``(N, 3, 3)`` between *points*: positions from the image's centre in units of half its longer
side (:class:`models.registration.descriptors.Frame`).
"""

import math
from dataclasses import dataclass

import torch
from kornia.geometry.linalg import transform_points
from scipy.fft import next_fast_len
from torch import Tensor

from models.registration.affine import Prior, align
from models.registration.descriptors import HALF, Frame, Level, Picture, correlation, describe
from models.warping import sample

_SIDE = 160  # VI's longer side in pixels; reduced where IR's field of view is larger, to bound the cost
_SCALE_STEP, _ROTATION_STEP = 1.1, 3.0  # the fit converges from half a step of either
# Smallest overlap, as a share of the smaller content: correlations over a tiny overlap are high by chance.
_TEMPLATE_OVERLAP = 0.75
# The correlation is multiplied by the overlap to this power, as small overlaps correlate by chance more often.
_OVERLAP_POWER = 0.15
_PEAKS, _APART = 3, 4  # shifts kept per template, and their smallest distance in pixels
_DISTINCT = 0.08  # smallest mean distance of VI's corners, in points, between two hypotheses
_RESCORED = 32  # distinct maps that are scored again; the right map is among 8 for 93 % of 86 pairs, among 32 for 99 %
_ENERGY_FLOOR = 1e-6


@dataclass(frozen=True)
class Hypotheses:
    """``maps`` ``(N, 3, 3)`` from VI's points to IR's, best first, and their ``values`` ``(N,)``."""

    maps: Tensor
    values: Tensor


def search(
    ir: Picture, vi: Picture, scale: tuple[float, float] = (0.4, 2.5), rotation: float = 12.0, count: int = 8
) -> Hypotheses:
    """Find the best ``count`` distinct similarity maps.

    ``scale`` is the range of IR's field of view relative to VI's, along their longer sides; ``rotation`` (degrees, up
    to 180) is the largest rotation of IR either way.
    """
    angles = _angles(rotation, vi.gray)
    found = [_search_scale(ir, vi, s, angles) for s in _scales(*scale)]
    maps, values = torch.cat([maps for maps, _ in found]), torch.cat([values for _, values in found])
    order = values.argsort(descending=True, stable=True)
    maps = maps[order][distinct(maps[order], vi.frame.corners(), max(count, _RESCORED))]
    values = _rescore(ir, vi, maps)
    best = values.argsort(descending=True, stable=True)[:count]
    return Hypotheses(maps[best], values[best])


def search_near(level: Level, rotation: float, translation: float, prior: Prior) -> Tensor:
    """Return starts ``(N, 3, 3)`` for :func:`models.registration.affine.fit` of frames that agree to a few degrees.

    They are, best first, for every rotation, the translation of the highest correlation; and the identity. They are
    ordered by correlation minus the prior's penalty.

    Rotations reach ``rotation`` degrees to either side, translations ``translation`` of the longer side.
    """
    linear = _similarities(_angles(rotation, level.vi), 1.0)
    value, reach = shift_correlations(level, *level.ir_at(level.frame.pixels(linear)), translation)
    best, index = value.flatten(1).max(dim=1)
    shift = torch.stack((index % (2 * reach + 1), index // (2 * reach + 1)), dim=1) - reach
    starts = linear.clone()
    starts[:, :2, 2] = (linear[:, :2, :2] @ (shift / level.frame.scale.view(1, 2))[..., None])[..., 0]
    best = torch.cat((value[len(value) // 2, reach, reach][None], best))
    starts = torch.cat((torch.eye(3, device=linear.device)[None], starts))
    return starts[(best - prior.penalty(starts)).argsort(descending=True, stable=True)]


def shift_correlations(level: Level, ir: Tensor, ir_mask: Tensor, translation: float) -> tuple[Tensor, int]:
    """Correlate N IR descriptors ``(N, 8, h, w)`` with ``level``'s VI descriptors at all shifts from -r to r px.

    Returns the normalised correlation ``(N, 2 r + 1, 2 r + 1)``, rows along y, and r, which is ``translation`` of the
    longer side.
    """
    vi, vi_mask = level.vi, level.vi_mask
    height, width = vi.shape[-2:]
    reach = math.ceil(translation * max(height, width))
    padded = (height + reach, width + reach)  # keeps shifts up to the reach from wrapping around

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        """Sum over channels and pixels p the product ``a(p + t) b(p)``; t = -reach .. reach along y and x."""
        spectrum = (torch.fft.rfft2(a, padded) * torch.fft.rfft2(b, padded).conj()).sum(1)
        shifted = torch.fft.irfft2(spectrum, padded).roll((reach, reach), (-2, -1))
        return shifted[:, : 2 * reach + 1, : 2 * reach + 1]

    value = correlation(
        correlate(ir * ir_mask, vi * vi_mask),
        correlate(ir.square().sum(1, keepdim=True) * ir_mask, vi_mask),
        correlate(ir_mask, vi.square().sum(1, keepdim=True) * vi_mask),
        correlate(ir_mask, vi_mask),
        vi_mask.sum() * level.smallest_overlap,
    )
    return value, reach


def _scales(smallest: float, largest: float) -> list[float]:
    steps = max(0, math.ceil(math.log(largest / smallest) / math.log(_SCALE_STEP)))
    return [smallest * (largest / smallest) ** (i / max(1, steps)) for i in range(steps + 1)]


def _angles(rotation: float, like: Tensor) -> Tensor:
    """Return angles in radians, 0 included; a full turn has no duplicate end."""
    steps = math.ceil(rotation / _ROTATION_STEP)
    angles = torch.linspace(-rotation, rotation, 2 * steps + 1, device=like.device).deg2rad()
    return angles[1:] if rotation >= 180 else angles


def _similarities(angles: Tensor, scale: float) -> Tensor:
    """Return maps ``(N, 3, 3)`` to an IR of ``scale`` times VI's field of view, turned by ``angles`` ``(N,)``."""
    maps = torch.eye(3, device=angles.device).repeat(len(angles), 1, 1)
    cosine, sine = angles.cos() / scale, angles.sin() / scale
    maps[:, :2, :2] = torch.stack((cosine, -sine, sine, cosine), dim=1).view(-1, 2, 2)
    return maps


def _search_scale(ir: Picture, vi: Picture, scale: float, angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best maps ``(N, 3, 3)`` of one scale and their values ``(N,)``."""
    side = _SIDE / max(1.0, scale) ** 0.5
    vi, ir = vi.shrink(side), ir.shrink(side * scale)
    linear = _similarities(angles, scale)[:, :2, :2]
    unit = vi.frame.scale.flatten(1)
    corners = torch.linalg.inv(linear) @ ir.frame.corners().T  # in VI's points
    half = (corners.abs().amax(dim=(0, 2)) * unit[0]).ceil().int().tolist()
    template = Frame((2 * half[1] + 1, 2 * half[0] + 1), (2 * half[1] + 1, 2 * half[0] + 1), vi.gray)

    points = linear @ ((template.grid - template.centre).flatten(2) / unit[..., None])
    pixels = points.view(-1, *template.grid.shape[1:]) * ir.frame.scale + ir.frame.centre
    gray, content = (x.expand(len(angles), -1, -1, -1) for x in (ir.gray, ir.content))
    ir_descriptors = describe(sample(gray, pixels, padding="border"), sample(content, pixels), HALF)
    value = _correlate(*ir_descriptors, *vi.describe(HALF))
    best, shift = _peaks(value, vi.size)
    # A shift takes VI's pixels to the template's, whose centre is the centre of IR.
    shift = (shift + (vi.frame.centre - template.centre).view(1, 1, 2)) / unit
    maps = torch.eye(3, device=best.device).repeat(*best.shape, 1, 1)
    maps[..., :2, :2], maps[..., :2, 2:] = linear[:, None], linear[:, None] @ shift[..., None]
    return maps.flatten(0, 1), best.flatten()


def _rescore(ir: Picture, vi: Picture, maps: Tensor) -> Tensor:
    """Return the values ``(N,)`` of ``maps`` ``(N, 3, 3)`` with all channels of the descriptors."""
    level = align(ir, vi, maps, _SIDE)
    overlap = (level.ir_mask * level.vi_mask).sum((1, 2, 3)) / level.vi_mask.sum().clamp(min=1)
    correlations = level.compare(level.frame.grid.expand(len(maps), -1, -1, -1)).correlation
    return correlations * overlap**_OVERLAP_POWER


def _correlate(ir: Tensor, ir_mask: Tensor, vi: Tensor, vi_mask: Tensor) -> Tensor:
    """Return the value ``(N, h, w)`` of each shift of VI over N templates; negative shifts count from the end."""
    size = [next_fast_len(max(a, b) + min(a, b) // 4, real=True) for a, b in zip(ir.shape[-2:], vi.shape[-2:])]
    vi_energy, ir_energy = vi.square().sum(1, keepdim=True), ir.square().sum(1, keepdim=True)
    ir, vi = torch.cat((ir, ir_energy, torch.ones_like(ir_mask)), dim=1) * ir_mask, vi * vi_mask
    ir, vi, vi_mask, vi_energy = (torch.fft.rfft2(x, size) for x in (ir, vi, vi_mask, vi_energy * vi_mask))
    product = (ir[:, :-2] * vi.conj()).sum(1, keepdim=True)
    masked = ir[:, -2:] * vi_mask.conj()
    sums = torch.fft.irfft2(torch.cat((product, masked, ir[:, -1:] * vi_energy.conj()), dim=1), size)
    product, ir_energy, overlap, vi_energy = sums.unbind(1)
    smaller = torch.minimum(ir[:, -1, 0, 0].real, vi_mask[:, 0, 0, 0].real).view(-1, 1, 1)
    floor = _ENERGY_FLOOR * overlap.clamp(min=1)
    value = product / ((ir_energy.clamp(min=0) + floor) * (vi_energy.clamp(min=0) + floor)).sqrt()
    value = value * (overlap / vi_mask[:, 0, 0, 0].real.view(-1, 1, 1)).clamp(min=0) ** _OVERLAP_POWER
    return torch.where(overlap > _TEMPLATE_OVERLAP * smaller.clamp(min=1), value, -1.0)


def _peaks(value: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Find the best separate maxima of ``(N, h, w)``: values ``(N, P)`` and shifts ``(N, P, 2)``, x and y."""
    height, width = value.shape[-2:]
    rows, columns = torch.arange(height, device=value.device), torch.arange(width, device=value.device)
    values, shifts = [], []
    for _ in range(_PEAKS):
        best, index = value.flatten(1).max(dim=1)
        y, x = index // width, index % width
        near_y, near_x = (rows - y[:, None]).abs() <= _APART, (columns - x[:, None]).abs() <= _APART
        value = value.masked_fill(near_y[:, :, None] & near_x[:, None, :], -1.0)
        # VI's frame reaches beyond the template's start by less than its own size.
        y, x = torch.where(y > height - size[0], y - height, y), torch.where(x > width - size[1], x - width, x)
        values.append(best)
        shifts.append(torch.stack((x, y), dim=1))
    return torch.stack(values, dim=1), torch.stack(shifts, dim=1).to(value.dtype)


def distinct(maps: Tensor, corners: Tensor, count: int) -> list[int]:
    """Return the indices of the first ``count`` of N maps whose corner positions differ from all those before."""
    moved = transform_points(maps, corners.expand(len(maps), -1, -1))
    scale = torch.linalg.det(maps[:, :2, :2]).abs().sqrt()
    kept: list[int] = []
    for i in range(len(maps)):
        distances = [(moved[i] - moved[j]).norm(dim=1).mean() / scale[j] for j in kept]
        if all(d > _DISTINCT for d in distances):
            kept.append(i)
        if len(kept) == count:
            break
    return kept
