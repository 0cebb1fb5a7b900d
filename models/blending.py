"""Blend the fused image into the visible one where the registered infrared image ends."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.results import Registration
from models.warping import content_mask, warp
from utils.colour import luminance

# The fusion network's convolutions carry the black beyond the border of the registered image this far inwards; there
# the visible image stays. Over twice the second number of pixels it then fades into the fused image.
BORDER, FADE = 4, 6


def share_of_fused(ir: Tensor, registration: Registration) -> Tensor:
    """``(B, 1, H, W)``: 1 where the registered image has content, falling to 0 before it ends.

    It ends at the border of the warp and at a black band that ``ir`` ``(B, 1 or 3, H, W)``, the image as given, brought
    along.
    """
    content = warp(content_mask(luminance(ir)), registration.flow_ir2vi) > 0.999
    inside = (registration.valid * content).float()
    reach = BORDER + FADE
    # Erosion by a square, one axis after the other.
    outside = F.max_pool2d(1 - inside, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    outside = F.max_pool2d(outside, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.avg_pool2d(1 - outside, 2 * FADE + 1, stride=1, padding=FADE, count_include_pad=False)


def blend(fused: Tensor, vi: Tensor, share: Tensor) -> Tensor:
    """``fused`` ``(B, 3, H, W)`` by its ``share`` ``(B, 1, H, W)``, ``vi`` ``(B, 1 or 3, H, W)`` for the rest."""
    return torch.lerp(vi.expand_as(fused), fused, share.to(fused.dtype))
