"""Metrics from first and second moments: SD, SF, AG of the fused image; SCD, CC, MSE, PSNR against the sources.

Images: ``(H, W)`` float64 of whole numbers 0..255. SD, SF, AG are in gray levels; MSE and PSNR are on the range [0, 1].
Sources: SF, Eskicioglu and Fisher, IEEE Trans. Communications, 1995; AG, Cui et al., Optics Communications, 2015;
SCD, Aslantas and Bendes, AEU, 2015.
"""

import torch
from torch import Tensor

from utils.metrics.filters import ratio


def standard_deviation(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """SD: population standard deviation of the fused image."""
    return fused.std(correction=0)


def spatial_frequency(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """SF: square root of the mean squared vertical plus the mean squared horizontal first difference."""
    return (fused.diff(dim=0).square().mean() + fused.diff(dim=1).square().mean()).sqrt()


def average_gradient(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """AG: sum of ``sqrt((gx^2 + gy^2) / 2)`` over all pixels, divided by (H - 1)(W - 1).

    The gradient has central differences inside and one-sided ones at the border. By definition the divisor is smaller
    than the number of summed pixels.
    """
    gy, gx = torch.gradient(fused)
    height, width = fused.shape
    return ((gx.square() + gy.square()) / 2).sqrt().sum() / ((height - 1) * (width - 1))


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Compute the correlation coefficient in [-1, 1]; 0 if an image is constant."""
    x, y = x - x.mean(), y - y.mean()
    return ratio((x * y).sum(), (x.square().sum() * y.square().sum()).sqrt())


def correlation(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """CC: mean correlation of the fused image with the two sources."""
    return (pearson(ir, fused) + pearson(vi, fused)) / 2


def sum_of_correlations_of_differences(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """SCD: correlation of (fused - one source) with the other source, summed over both sources, in [-2, 2]."""
    return pearson(fused - vi, ir) + pearson(fused - ir, vi)


def mean_squared_error(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """MSE: mean squared difference from the sources, averaged over both, in [0, 1]."""
    return ((fused - ir).square().mean() + (fused - vi).square().mean()) / (2 * 255**2)


def peak_signal_to_noise(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """PSNR: in dB, of :func:`mean_squared_error` with peak 1; infinite if the fused image equals both sources."""
    return -10 * torch.log10(mean_squared_error(ir, vi, fused))
