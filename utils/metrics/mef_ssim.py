"""MEF_SSIM and MEF_MS_SSIM: Ma's structural similarity for multi-exposure fusion, on one and on three scales.

Ma, Zeng, Wang, IEEE Trans. Image Processing, 2015. (The MATLAB suite prints the second as "MS_SSIM"; it is not Wang's
multi-scale SSIM.) Each 11x11 patch of the fused image is compared with a desired patch r: a contrast-weighted mean of
the sources' patches without their means, scaled to the larger contrast of the sources. Given the weights of its window,
r is linear in the sources, so its variance and covariances follow from filtered products.
Images: ``(H, W)`` float64 of whole numbers 0..255.
"""

import math

import torch
from torch import Tensor

from utils.metrics.filters import box_taps, filter_valid, gaussian_taps, ratio

_SIZE = 11
_STABILISER = (0.03 * 255) ** 2
_EPS = torch.finfo(torch.float64).eps
_SCALE_WEIGHTS = torch.tensor([0.0448, 0.2856, 0.3001], dtype=torch.float64)


def _second_moments(x: Tensor, y: Tensor, f: Tensor, taps: list[float]) -> Tensor:
    """Compute local var x, var y, cov xy, cov xf, cov yf, var f, ``(6, h, w)``, in the window of ``taps``."""
    means_and_products = filter_valid(torch.stack([x, y, f, x * x, y * y, x * y, x * f, y * f, f * f]), taps)
    mx, my, mf = means_and_products[:3]
    return means_and_products[3:] - torch.stack([mx * mx, my * my, mx * my, mx * mf, my * mf, mf * mf])


def _quality(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Average the similarity of the fused patches to their desired patches at one scale."""
    count = _SIZE**2
    var_ir, var_vi, cov = _second_moments(ir, vi, fused, box_taps(_SIZE))[:3]

    # The contrast of a patch is the norm of its deviation from its mean.
    norm_ir = (count * var_ir).clamp(min=0).sqrt()
    norm_vi = (count * var_vi).clamp(min=0).sqrt()
    norm_sum = (count * (var_ir + var_vi + 2 * cov)).clamp(min=0).sqrt()
    consistency = ((norm_sum + _EPS) / (norm_ir + norm_vi + _EPS)).clamp(_EPS, 1 - _EPS)
    power = torch.tan(math.pi / 2 * consistency).clamp(max=10)
    contrast_ir, contrast_vi = norm_ir + 0.001, norm_vi + 0.001
    weight_ir = (contrast_ir / _SIZE) ** power + _EPS
    weight_vi = (contrast_vi / _SIZE) ** power + _EPS
    a = weight_ir / (weight_ir + weight_vi) / contrast_ir
    b = weight_vi / (weight_ir + weight_vi) / contrast_vi
    norm = (count * (a**2 * var_ir + b**2 * var_vi + 2 * a * b * cov)).clamp(min=0).sqrt()
    stretch = ratio(torch.maximum(contrast_ir, contrast_vi), norm)
    a, b = a * stretch, b * stretch

    var_ir, var_vi, cov, cov_ir, cov_vi, var_fused = _second_moments(ir, vi, fused, gaussian_taps(_SIZE, 1.5))
    var_desired = a**2 * var_ir + b**2 * var_vi + 2 * a * b * cov
    cov_desired = a * cov_ir + b * cov_vi
    return ((2 * cov_desired + _STABILISER) / (var_desired + var_fused + _STABILISER)).mean()


def _halve(image: Tensor) -> Tensor:
    """Average 2x2 blocks; an odd last row or column is repeated."""
    height, width = image.shape
    even = torch.nn.functional.pad(image[None, None], (0, width % 2, 0, height % 2), mode="replicate")
    return torch.nn.functional.avg_pool2d(even, 2)[0, 0]


def mef_ssim(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """MEF_SSIM: one scale."""
    return _quality(ir, vi, fused)


def mef_ms_ssim(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """MEF_MS_SSIM: weighted geometric mean over three scales, each half the size; needs 41 pixels on each side.

    A scale of negative quality, which has no fractional power, counts as 0.
    """
    qualities = []
    for _ in _SCALE_WEIGHTS:
        qualities.append(_quality(ir, vi, fused))
        ir, vi, fused = _halve(ir), _halve(vi), _halve(fused)
    weights = (_SCALE_WEIGHTS / _SCALE_WEIGHTS.sum()).to(fused.device)
    return torch.stack(qualities).clamp(min=0).pow(weights).prod()
