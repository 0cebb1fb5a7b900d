"""Conversion between RGB and YCbCr as in the published code; all channels in [0, 1]."""

import torch
from kornia import color
from torch import Tensor


def luminance(image: Tensor) -> Tensor:
    """Compute the luminance Y ``(B, 1, H, W)`` of RGB ``(B, 3, H, W)``; gray ``(B, 1, H, W)`` is returned unchanged."""
    if image.shape[1] == 1:
        return image
    return color.rgb_to_y(image)


def rgb_to_ycbcr(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split RGB ``(B, 3, H, W)`` in [0, 1] into Y, Cb and Cr, each ``(B, 1, H, W)`` in [0, 1]."""
    return color.rgb_to_ycbcr(image).clamp(0, 1).split(1, dim=1)


def ycbcr_to_rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """Join Y, Cb and Cr, each ``(B, 1, H, W)`` in [0, 1], into RGB ``(B, 3, H, W)``, clamped to [0, 1].

    The coefficients are the rounded ones of the published code, whose outputs the tests reproduce to 1e-4;
    :func:`kornia.color.ycbcr_to_rgb` is the exact inverse and differs by up to 2.8e-4.
    """
    red = y + 1.403 * (cr - 0.5)
    green = y - 0.714 * (cr - 0.5) - 0.344 * (cb - 0.5)
    blue = y + 1.773 * (cb - 0.5)
    return torch.cat((red, green, blue), dim=1).clamp(0, 1)
