"""Blend the fused image into the visible one where the registered infrared image ends."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.results import Registration
from models.warping import content_mask, warp
from utils.colour import luminance

# Pixels. Up to BORDER pixels inside the border of the registered image the visible image is kept, since there the
# fusion network's convolutions also see the black outside. From there a linear ramp leads to the fused image: over
# 2 TEXTURE_FADE pixels for its texture, over 2 BRIGHTNESS_FADE for its brightness, so that no frame is seen where the
# two differ in brightness. Brightness is the average over a square of 2 BRIGHTNESS_RADIUS + 1 pixels.
BORDER, TEXTURE_FADE, BRIGHTNESS_FADE, BRIGHTNESS_RADIUS = 4, 6, 16, 12


def content(ir: Tensor, registration: Registration) -> Tensor:
    """Return where the registered image shows something, ``(B, 1, H, W)`` bool: inside the warp's border and the input.

    The input ``ir`` ``(B, 1 or 3, H, W)`` may have a black band already.
    """
    return registration.valid.bool() & (warp(content_mask(luminance(ir)), registration.flow_ir2vi) > 0.999)


def fade(fused: Tensor, vi: Tensor, inside: Tensor) -> Tensor:
    """Return ``fused`` ``(B, 3, H, W)`` where ``inside`` ``(B, 1, H, W)`` is set and ``vi`` outside.

    Two bands are blended, texture over a short way and brightness over a longer one (Burt and Adelson, ACM Transactions
    on Graphics, 1983). More than BORDER + 2 BRIGHTNESS_FADE pixels inside, the result is ``fused`` itself.
    """
    outside = 1 - inside.to(fused.dtype)
    texture, brightness = (_ramp(outside, half) for half in (TEXTURE_FADE, BRIGHTNESS_FADE))
    difference = texture * (fused - vi)
    average = _average(difference, BRIGHTNESS_RADIUS) / _average(texture, BRIGHTNESS_RADIUS).clamp(min=1e-3)
    faded = vi + difference - (texture - brightness) * average
    return torch.where(brightness == 1, fused, faded.clamp(0, 1))


def _ramp(outside: Tensor, half: int) -> Tensor:
    """Return 0 up to BORDER pixels from ``outside``, and 1 from ``2 half`` pixels further on."""
    radius = BORDER + half
    # Erosion by a square, one axis after the other.
    eroded = F.max_pool2d(outside, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    eroded = F.max_pool2d(eroded, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    return 1 - _average(eroded, half)


def _average(x: Tensor, radius: int) -> Tensor:
    """Average over squares of ``2 radius + 1`` pixels, cut at the frame."""
    size = 2 * radius + 1
    x = F.avg_pool2d(x, (size, 1), stride=1, padding=(radius, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, size), stride=1, padding=(0, radius), count_include_pad=False)
