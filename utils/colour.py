"""RGB and YCbCr as the published code converts them; all channels in [0, 1]."""

import torch
from torch import Tensor


def luminance(image: Tensor) -> Tensor:
    """Luminance Y ``(B, 1, H, W)`` of an RGB image ``(B, 3, H, W)``; a gray image ``(B, 1, H, W)`` is its own."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def rgb_to_ycbcr(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split RGB ``(B, 3, H, W)`` in [0, 1] into Y, Cb and Cr, each ``(B, 1, H, W)`` in [0, 1]."""
    red, _, blue = image.split(1, dim=1)
    y = luminance(image)
    cb = 0.564 * (blue - y) + 0.5
    cr = 0.713 * (red - y) + 0.5
    return y.clamp(0, 1), cb.clamp(0, 1), cr.clamp(0, 1)


def ycbcr_to_rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """Join Y, Cb and Cr, each ``(B, 1, H, W)`` in [0, 1], into RGB ``(B, 3, H, W)``, clamped to [0, 1]."""
    red = y + 1.403 * (cr - 0.5)
    green = y - 0.714 * (cr - 0.5) - 0.344 * (cb - 0.5)
    blue = y + 1.773 * (cb - 0.5)
    return torch.cat((red, green, blue), dim=1).clamp(0, 1)
