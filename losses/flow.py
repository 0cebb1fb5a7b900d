"""Losses on flows: end-point error, smoothness and border suppression. Flows are ``(B, 2, H, W)`` in pixels."""

import torch
from torch import Tensor

from losses.basics import masked_mean, second_differences
from models.warping import pixel_grid, resize_flow

# Later scales matter more; the last flow is the result.
SCALE_WEIGHTS = (0.3, 0.5, 1.0)


def end_point(flows: list[Tensor], target: Tensor, valid: Tensor) -> Tensor:
    """Robust end-point error of the flows of all scales, in pixels of the image: sum_s w_s mean_valid rho(e_s).

    ``rho(e) = sqrt(|e|^2 + 0.01) - 0.1`` is the distance to ``target`` ``(B, 2, H, W)``, rounded off below a tenth
    of a pixel so that its gradient stays defined, and never cut off. ``flows`` are coarse to fine, each in pixels of
    its own scale; ``valid`` ``(B, 1, H, W)``.
    """
    total = target.new_zeros(())
    for weight, flow in zip(SCALE_WEIGHTS, flows, strict=True):
        error = resize_flow(flow, target.shape[-2:]) - target
        distance = (error.square().sum(dim=1, keepdim=True) + 0.01).sqrt() - 0.1
        total = total + weight * masked_mean(distance, valid)
    return total


def smoothness(flows: list[Tensor]) -> Tensor:
    """Mean absolute second differences of the flows of all scales, along x and y, summed over scales."""
    return sum(difference.abs().mean() for flow in flows for difference in second_differences(flow))


def border(flow: Tensor, valid: Tensor) -> Tensor:
    """Border suppression: mean over ``valid`` of how far, in pixels, ``p + flow(p)`` lies outside the frame.

    ``valid`` ``(B, 1, H, W)`` marks the pixels whose true partner lies inside, where a warp must not fetch black from
    outside. Per axis ``max(0, -x) + max(0, x - last)``; 0 for a flow that stays inside. The paper names such a term
    without a formula; this one is ours.
    """
    height, width = flow.shape[-2:]
    position = pixel_grid(height, width, like=flow) + flow
    last = torch.tensor([width - 1.0, height - 1.0], device=flow.device).view(1, 2, 1, 1)
    outside = (-position).clamp(min=0) + (position - last).clamp(min=0)
    return masked_mean(outside.sum(dim=1, keepdim=True), valid)
