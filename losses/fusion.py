"""Losses on the fused luminance: gradient, structure (SSIM), intensity, consistency (paper, Sec. III-D).

Images are ``(B, 1, H, W)`` in [0, 1]; ``mask`` ``(B, 1, H, W)`` is 1 where the sources show content. A term counts
where all that it looks at lies inside: the black beyond a warped image must not pass for an edge in it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.basics import masked_mean, shrink
from models.layers import blur, gaussian_kernel

_SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
_SSIM_WINDOW = (11, 1.5)  # taps, sigma in pixels
_C1, _C2 = 0.01**2, 0.03**2


def sobel(image: Tensor) -> Tensor:
    """``|Gx| + |Gy|`` by the Sobel operator, edge pixels repeated; ``(B, 1, H, W)``."""
    kernel = torch.tensor(_SOBEL_X, device=image.device, dtype=image.dtype)
    kernels = torch.stack((kernel, kernel.T))[:, None]
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels).abs().sum(dim=1, keepdim=True)


def gradient(fused: Tensor, ir: Tensor, vi: Tensor, mask: Tensor) -> Tensor:
    """Mean ``| |grad fused| - max(|grad ir|, |grad vi|) |``."""
    return masked_mean((sobel(fused) - torch.maximum(sobel(ir), sobel(vi))).abs(), shrink(mask, 1))


def intensity(fused: Tensor, ir: Tensor, vi: Tensor, mask: Tensor) -> Tensor:
    """Mean ``| fused - max(ir, vi) |``."""
    return masked_mean((fused - torch.maximum(ir, vi)).abs(), mask)


def ssim_maps(image: Tensor, *others: Tensor) -> list[Tensor]:
    """Local SSIM of ``image`` with each of ``others``: 11x11 Gaussian of sigma 1.5, edges repeated, data range 1."""
    images = (image, *others)
    products = [x * x for x in images] + [image * x for x in others]
    blurred = blur(torch.cat((*images, *products), dim=1), gaussian_kernel(*_SSIM_WINDOW), border="replicate")
    means, squares, crossed = blurred.split((len(images), len(images), len(others)), dim=1)
    mean, mean_others = means[:, :1], means[:, 1:]
    variances = squares - means**2
    covariance = crossed - mean * mean_others
    luminance = (2 * mean * mean_others + _C1) / (mean**2 + mean_others**2 + _C1)
    maps = luminance * (2 * covariance + _C2) / (variances[:, :1] + variances[:, 1:] + _C2)
    return list(maps.split(1, dim=1))


def structure(fused: Tensor, ir: Tensor, vi: Tensor, mask: Tensor) -> Tensor:
    """Mean ``1 - (SSIM(fused, ir) + SSIM(fused, vi)) / 2``."""
    inside = shrink(mask, _SSIM_WINDOW[0] // 2)
    return masked_mean(1 - sum(ssim_maps(fused, ir, vi)) / 2, inside)


def consistency(fused: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """Mean ``| fused - other |``: fusing (registered IR, VI) and (IR, registered VI) must give one image."""
    return masked_mean((fused - other).abs(), mask)
