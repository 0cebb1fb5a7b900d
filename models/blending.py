"""Blend the fused image into the visible one where the registered infrared image ends."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.results import Registration
from models.warping import content_mask, warp
from utils.colour import luminance

# Pixels. Up to BORDER pixels inside the border of the registered image the visible image is kept, since there the
# fusion network's convolutions also see the black outside. The next 2 FADE pixels are a linear ramp to the fused image.
BORDER, FADE = 4, 6


def share_of_fused(ir: Tensor, registration: Registration) -> Tensor:
    """Compute the blending weight of the fused image, ``(B, 1, H, W)``: 1 inside the registered content, 0 outside.

    The weight falls to 0 before the content ends: at the border of the warp, and at a black band that the input ``ir``
    ``(B, 1 or 3, H, W)`` already had.
    """
    content = warp(content_mask(luminance(ir)), registration.flow_ir2vi) > 0.999
    inside = (registration.valid * content).float()
    radius = BORDER + FADE
    # Erosion by a square, one axis after the other.
    outside = F.max_pool2d(1 - inside, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    outside = F.max_pool2d(outside, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    return F.avg_pool2d(1 - outside, 2 * FADE + 1, stride=1, padding=FADE, count_include_pad=False)


def blend(fused: Tensor, vi: Tensor, share: Tensor) -> Tensor:
    """Return ``share fused + (1 - share) vi``; ``fused`` is ``(B, 3, H, W)``, ``share`` ``(B, 1, H, W)``."""
    return torch.lerp(vi.expand_as(fused), fused, share.to(fused.dtype))
