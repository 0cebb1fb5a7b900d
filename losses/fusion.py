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


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Local SSIM of two images: 11x11 Gaussian of sigma 1.5, edges repeated, data range 1."""
    kernel = gaussian_kernel(*_SSIM_WINDOW)
    channels = torch.cat((x, y, x * x, y * y, x * y), dim=1)
    mean_x, mean_y, xx, yy, xy = blur(channels, kernel, border="replicate").split(1, dim=1)
    variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance * (2 * covariance + _C2) / (variance_x + variance_y + _C2)


def structure(fused: Tensor, ir: Tensor, vi: Tensor, mask: Tensor) -> Tensor:
    """Mean ``1 - (SSIM(fused, ir) + SSIM(fused, vi)) / 2``."""
    inside = shrink(mask, _SSIM_WINDOW[0] // 2)
    return masked_mean(1 - (ssim_map(fused, ir) + ssim_map(fused, vi)) / 2, inside)


def consistency(fused: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """Mean ``| fused - other |``: fusing (registered IR, VI) and (IR, registered VI) must give one image."""
    return masked_mean((fused - other).abs(), mask)
