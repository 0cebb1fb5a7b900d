"""What people complain of in fused pictures: washed-out areas, seams, and hidden things that stay hidden; ours.

Images: ``(H, W)`` float64 of whole numbers 0..255. Gradients are those of images smoothed by a Gaussian, central
differences, so that texture and noise count little: what the eye sees as a change of brightness.
"""

import torch
from torch import Tensor

from utils.metrics.filters import filter_valid, gaussian_taps, ratio

_BRIGHTNESS_WINDOW = 13, 2.0  # taps, sigma in pixels
_STRUCTURE_WINDOW, _AREA_WINDOW = (7, 1.0), (19, 3.0)
_WELL_EXPOSED = 0.2 * 255, 0.8 * 255
_MOVED = 0.15 * 255
_DOMINANCE = 2.0  # how many times VI's gradients IR's must be for VI to hide something
_FAINTEST = 0.01 * 255  # gradient in gray levels a pixel below which IR shows nothing


def _smooth(images: Tensor, window: tuple[int, float]) -> Tensor:
    return filter_valid(images, gaussian_taps(*window))


def _gradient(images: Tensor) -> Tensor:
    """Compute the central differences of ``(N, H, W)`` along x and y, inside: ``(N, 2, H - 2, W - 2)``."""
    dx = (images[:, 1:-1, 2:] - images[:, 1:-1, :-2]) / 2
    dy = (images[:, 2:, 1:-1] - images[:, :-2, 1:-1]) / 2
    return torch.stack((dx, dy), dim=1)


def washed_out(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Compute the share, 0 to 1, of VI's well-exposed area whose brightness the fused image moves by more than 0.15.

    Brightness is the average by a Gaussian of sigma 2, of the range 0 to 1; well exposed is 0.2 to 0.8. 0 where VI has
    no such area.
    """
    before, after = _smooth(torch.stack((vi, fused)), _BRIGHTNESS_WINDOW)
    low, high = _WELL_EXPOSED
    exposed = (before > low) & (before < high)
    moved = exposed & ((after - before).abs() > _MOVED)
    return ratio(moved.sum().to(vi), exposed.sum().to(vi))


def seams(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Compute the energy of gradients that neither source has, relative to that of the stronger source; 0 is best.

    ``sum max(0, |grad F| - m)^2 / sum m^2`` with ``m = max(|grad A|, |grad B|)``, of images smoothed by a Gaussian of
    sigma 2. Where a fused image goes over from one source to the other, it has the gradient of the transition besides
    the sources' own: the border of a patch. Sharp invented edges are what Nabf measures.
    """
    strength = _gradient(_smooth(torch.stack((ir, vi, fused)), _BRIGHTNESS_WINDOW)).norm(dim=1)
    sources = strength[:2].amax(dim=0)
    return ratio((strength[2] - sources).clamp(min=0).square().sum(), sources.square().sum())


def hidden_shown(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Compute the share, 0 to 1, of IR's structure kept where VI hides it (smoke, glare, night); 1 where nothing is.

    ``sum min(max(0, grad F . grad A), |grad A|^2) / sum |grad A|^2`` over the pixels where IR's gradient exceeds 0.01
    of the range and its average (Gaussian of sigma 3) is at least twice VI's. Images are smoothed by sigma 1.
    """
    gradients = _gradient(_smooth(torch.stack((ir, vi, fused)), _STRUCTURE_WINDOW))
    strength = gradients[:2].norm(dim=1)
    area_ir, area_vi = _smooth(strength, _AREA_WINDOW)
    margin = _AREA_WINDOW[0] // 2
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    of_ir, of_fused, strength_ir = gradients[0][inside], gradients[2][inside], strength[0][inside]
    counted = (area_ir >= _DOMINANCE * area_vi) & (strength_ir > _FAINTEST)
    energy = strength_ir.square() * counted
    kept = torch.minimum((of_fused * of_ir).sum(dim=0).clamp(min=0), strength_ir.square()) * counted
    return ratio(kept.sum(), energy.sum(), otherwise=1.0)
