"""SSIM of the fused image against both sources (Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing, 2004).

Images: ``(H, W)`` float64 of whole numbers 0..255.
"""

import torch
from torch import Tensor

from utils.metrics.filters import filter_valid, gaussian_taps, pad

# SSIM's stabilisers for a data range of 255.
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def structural_similarity(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """SSIM: mean over the two sources and all pixels, 11x11 Gaussian of sigma 1.5, edge pixels replicated."""
    sources = torch.stack([ir, vi])
    moments = torch.cat([sources, sources**2, sources * fused, fused[None], fused[None] ** 2])
    moments = filter_valid(pad(moments, 5, "replicate"), gaussian_taps(11, 1.5))
    source_mean, source_square, product = moments[0:2], moments[2:4], moments[4:6]
    fused_mean, fused_square = moments[6], moments[7]
    variances = source_square - source_mean**2 + fused_square - fused_mean**2
    covariance = product - source_mean * fused_mean
    luminance = (2 * source_mean * fused_mean + _C1) / (source_mean**2 + fused_mean**2 + _C1)
    return (luminance * (2 * covariance + _C2) / (variances + _C2)).mean()
