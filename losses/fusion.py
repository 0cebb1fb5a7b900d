"""Losses on the fused luminance: gradient, SSIM, intensity, consistency (paper, Sec. III-D); selection, detail and
edges (ours).

Images are ``(B, 1, H, W)`` in [0, 1]; ``selected`` is the :func:`losses.target.target`; ``mask`` ``(B, 1, H, W)`` is 1
where the sources have content. A pixel counts only if the term's whole window is inside the mask, so that the black
outside a warped image does not act as an edge.
"""

import math

import torch
from torch import Tensor

from losses.basics import erode, masked_mean
from losses.target import sobel
from models.layers import blur, gaussian_kernel
from utils.metrics import filters

_SSIM_WINDOW = (11, 1.5)  # taps, sigma in pixels
_C1, _C2 = 0.01**2, 0.03**2

# The Sobel norm below which there is no edge, far below the 4/255 that a step of one gray level makes.
_NO_EDGE = 4e-5

# Window of the local contrast (taps, sigma in pixels), and its floor, the noise level of 8-bit images.
_CONTRAST_WINDOW, _CONTRAST_FLOOR = (9, 1.5), 0.01


def _blur(x: Tensor, window: tuple[int, float]) -> Tensor:
    """Blur ``x`` ``(B, C, H, W)`` by a Gaussian ``window`` (taps, sigma in pixels), edge pixels replicated."""
    taps, sigma = window
    return blur(x, gaussian_kernel(taps, sigma, x.device), border="replicate")


def gradient(fused: Tensor, ir: Tensor, vi: Tensor, mask: Tensor) -> Tensor:
    """Average ``| |grad fused| - max(|grad ir|, |grad vi|) |``."""
    return masked_mean((sobel(fused) - torch.maximum(sobel(ir), sobel(vi))).abs(), erode(mask, 1))


def intensity(fused: Tensor, ir: Tensor, vi: Tensor, mask: Tensor) -> Tensor:
    """Average ``| fused - max(ir, vi) |``."""
    return masked_mean((fused - torch.maximum(ir, vi)).abs(), mask)


def edges(fused: Tensor, ir: Tensor, vi: Tensor, share: Tensor, mask: Tensor) -> Tensor:
    """Average ``((1 - k) |grad ir| + (1 - share) (1 - k) |grad vi|) / 2``, k how well ``fused`` keeps that edge; ours.

    ``k = sigmoid(15 (s - 0.5)) sigmoid(22 (a - 0.8))``, with s the smaller of both strengths by the larger and a the
    agreement of both directions, 1 if parallel, 0 if at right angles: the two factors of the metric Qabf (Xydeas and
    Petrovic, 2000); at best 0.987. Two things differ from Qabf: where the target of ``selection`` shows IR, of which
    ``share`` is the weight there, VI's edges do not count, since people would be drawn with VI's folds instead of
    glowing; and the sum is not divided by the strength of all edges, so that the faint edges of a dark pair count as
    little as they look.
    """
    dx, dy, strength = _gradients(fused)
    lost = torch.zeros_like(fused)
    for source, weight in ((ir, 1), (vi, 1 - share)):
        dx_s, dy_s, strength_s = _gradients(source)
        similar = torch.minimum(strength, strength_s) / torch.maximum(strength, strength_s)
        across, along = (dx * dy_s - dy * dx_s).abs(), (dx * dx_s + dy * dy_s).abs()
        # Where there is no edge, there is no direction; the floor keeps its gradient small there.
        aligned = 1 - torch.atan2(across, along + _NO_EDGE * strength_s) * (2 / math.pi)
        kept = torch.sigmoid(15 * (similar - 0.5)) * torch.sigmoid(22 * (aligned - 0.8))
        lost = lost + weight * (1 - kept) * strength_s
    return masked_mean(lost / 2, erode(mask, 1))


def _gradients(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Sobel differences along x and y, and their norm, never 0, so that its gradient is finite."""
    dx, dy = filters.sobel(image, "replicate")
    return dx, dy, (dx**2 + dy**2 + _NO_EDGE**2).sqrt()


def selection(fused: Tensor, selected: Tensor, mask: Tensor) -> Tensor:
    """Average ``| fused - selected |``; ours, not in the paper."""
    return masked_mean((fused - selected).abs(), mask)


def detail(fused: Tensor, selected: Tensor, mask: Tensor) -> Tensor:
    """Average ``| grad (fused - selected) | / (c + 0.01)``, c the local average of ``| grad selected |``; ours.

    The gradient is the difference from the next pixel; c is averaged by a Gaussian of sigma 1.5. Because of the
    division, faint texture counts as much as strong texture, as it does in FMI, VIF and Qabf: in dark regions, errors
    of one gray level spoil these metrics but hardly change :func:`selection`.
    """
    contrast = _differences(selected).abs().mean(dim=1, keepdim=True)
    contrast = _blur(contrast, _CONTRAST_WINDOW)
    inside = erode(mask, _CONTRAST_WINDOW[0] // 2 + 1)[..., :-1, :-1]
    return masked_mean(_differences(fused - selected).abs() / (contrast + _CONTRAST_FLOOR), inside)


def _differences(x: Tensor) -> Tensor:
    """Return ``x(p + 1) - x(p)`` of ``(B, 1, H, W)`` along x and along y, ``(B, 2, H - 1, W - 1)``."""
    centre = x[..., :-1, :-1]
    return torch.cat((x[..., :-1, 1:] - centre, x[..., 1:, :-1] - centre), dim=1)


def ssim_maps(image: Tensor, *others: Tensor) -> list[Tensor]:
    """Compute the local SSIM of ``image`` with each of ``others``: 11x11 Gaussian, sigma 1.5, edge pixels replicated.

    :func:`kornia.metrics.ssim` mirrors the image at its edges, where its values differ by up to 0.5.
    """
    images = (image, *others)
    products = [x * x for x in images] + [image * x for x in others]
    blurred = _blur(torch.cat((*images, *products), dim=1), _SSIM_WINDOW)
    means, squares, crossed = blurred.split((len(images), len(images), len(others)), dim=1)
    mean, mean_others = means[:, :1], means[:, 1:]
    variances = squares - means**2
    covariance = crossed - mean * mean_others
    luminance = (2 * mean * mean_others + _C1) / (mean**2 + mean_others**2 + _C1)
    maps = luminance * (2 * covariance + _C2) / (variances[:, :1] + variances[:, 1:] + _C2)
    return list(maps.split(1, dim=1))


def ssim(fused: Tensor, ir: Tensor, vi: Tensor, mask: Tensor) -> Tensor:
    """Average ``1 - (SSIM(fused, ir) + SSIM(fused, vi)) / 2``."""
    inside = erode(mask, _SSIM_WINDOW[0] // 2)
    return masked_mean(1 - sum(ssim_maps(fused, ir, vi)) / 2, inside)


def consistency(fused: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """Average ``| fused - other |``: fusing (registered IR, VI) and (IR, registered VI) must yield the same image."""
    return masked_mean((fused - other).abs(), mask)
