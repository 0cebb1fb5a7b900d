"""VIF: visual information fidelity of the fused image with respect to both sources, in the pixel domain.

Sheikh and Bovik, IEEE Trans. Image Processing, 2006. Images: ``(H, W)`` float64 of whole numbers 0..255, at least
41 pixels on each side (the windows of all four scales must fit).
"""

import torch
from torch import Tensor

from utils.metrics.filters import filter_valid, gaussian_taps, ratio

_NOISE = 2.0  # variance of the visual noise
_TINY = 1e-10  # a smaller variance counts as flat


def _information(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the information of one scale, carried by the fused image and held by the source, both ``(2,)``: IR, VI.

    ``moments`` ``(8, h, w)``: local means of ir, vi, fused, their squares, and ir * fused, vi * fused.
    """
    source_mean, fused_mean, source_square, fused_square, product = moments.split([2, 1, 2, 1, 2])
    source_variance = (source_square - source_mean**2).clamp(min=0)
    fused_variance = (fused_square - fused_mean**2).clamp(min=0).expand_as(source_variance)
    covariance = product - source_mean * fused_mean

    # The fused image is modelled as gain * source + residual; where the model fails, it is all residual.
    gain = covariance / (source_variance + _TINY)
    unrelated = (source_variance < _TINY) | (fused_variance < _TINY) | (gain < 0)
    residual = torch.where(unrelated, fused_variance, fused_variance - gain * covariance).clamp(min=_TINY)
    gain = gain.masked_fill(unrelated, 0)
    source_variance = source_variance.masked_fill(source_variance < _TINY, 0)

    carried = torch.log10(1 + gain**2 * source_variance / (residual + _NOISE)).sum((1, 2))
    held = torch.log10(1 + source_variance / _NOISE).sum((1, 2))
    return carried, held


def _fidelity(ir: Tensor, vi: Tensor, fused: Tensor, first_scale_limit: float | None = None) -> Tensor:
    """Sum the ratio of carried to held information, over four scales, over both sources; 0 for a flat source."""
    images = torch.stack([ir, vi, fused])
    carried = held = images.new_zeros(())
    for size in (17, 9, 5, 3):
        taps = gaussian_taps(size, size / 5)
        if size < 17:
            images = filter_valid(images, taps)[:, ::2, ::2]
        products = torch.cat([images**2, images[:2] * images[2]])
        if size == 17 and first_scale_limit is not None:
            products = products.clamp(max=first_scale_limit)
        scale_carried, scale_held = _information(filter_valid(torch.cat([images, products]), taps))
        carried, held = carried + scale_carried, held + scale_held
    return ratio(carried, held).sum()


def visual_information_fidelity(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """VIF: sum over both sources, so 2 if the fused image equals both."""
    return _fidelity(ir, vi, fused)


def visual_information_fidelity_saturated(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """VIF as printed in 2022: computed on uint8, so the products of the first scale saturate at 255."""
    return _fidelity(ir, vi, fused, first_scale_limit=255)
