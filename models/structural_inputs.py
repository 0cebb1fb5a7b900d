"""Modality-independent input channels of the matcher: IR and VI share structure, not brightness or colour."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import blur, gaussian_kernel
from utils.colour import luminance

# Contrast below this, relative to the full range, is taken for noise and not amplified.
_CONTRAST_FLOOR = 0.01


def central_differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``(x(p + 1) - x(p - 1)) / 2`` of ``(B, C, H, W)`` along x and along y, edge pixels replicated.

    :func:`kornia.filters.spatial_gradient` in mode "diff" computes the same values in 6 to 9 times the time.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    return dx, dy


def gradient_magnitude(gray: Tensor) -> Tensor:
    """Compute the magnitude of the central differences of ``(B, 1, H, W)``."""
    dx, dy = central_differences(gray)
    return (dx.square() + dy.square() + 1e-12).sqrt()


def structural_channels(image: Tensor) -> Tensor:
    """Compute three structural channels ``(B, 3, H, W)`` of an image ``(B, 1 or 3, H, W)`` in [0, 1].

    The first two are ``(gray - local mean) / local deviation`` at a fine (sigma 2) and a coarse (sigma 8) scale, the
    third is the gradient magnitude divided by its local mean (sigma 8).
    """
    gray = luminance(image)
    fine, coarse = (gaussian_kernel(*options, gray.device) for options in ((13, 2.0), (49, 8.0)))

    def local_contrast(kernel: Tensor) -> Tensor:
        mean = blur(gray, kernel, border="replicate")
        # A GPU may filter by FFT, which leaves values just below 0 where the image is flat.
        variance = blur((gray - mean).square(), kernel, border="replicate").clamp(min=0)
        return (gray - mean) / (variance.sqrt() + _CONTRAST_FLOOR)

    gradient = gradient_magnitude(gray)
    sharpness = gradient / (blur(gradient, coarse, border="replicate") + _CONTRAST_FLOOR)
    return torch.cat((local_contrast(fine), local_contrast(coarse), sharpness), dim=1)
