"""Losses on flows: end-point error, smoothness and border suppression. Flows are ``(B, 2, H, W)`` in pixels."""

from torch import Tensor

from losses.basics import masked_mean, second_differences
from models.warping import per_axis, pixel_grid, resize_flow

# Coarse to fine; the last flow is the result and weighs most.
SCALE_WEIGHTS = (0.3, 0.5, 1.0)


def epe(flows: list[Tensor], target: Tensor, valid: Tensor) -> Tensor:
    """Sum the Charbonnier end-point errors (EPE) of all scales, in pixels of the image: sum_s w_s mean_valid rho(e_s).

    ``rho(e) = sqrt(|e|^2 + 0.01) - 0.1`` with e the difference from ``target`` ``(B, 2, H, W)``; it is quadratic below
    a tenth of a pixel, so its gradient is defined at 0. ``flows`` are coarse to fine, each in pixels of its own scale;
    ``valid`` is ``(B, 1, H, W)``.
    """
    total = target.new_zeros(())
    for weight, flow in zip(SCALE_WEIGHTS, flows, strict=True):
        error = resize_flow(flow, target.shape[-2:]) - target
        distance = (error.square().sum(dim=1, keepdim=True) + 0.01).sqrt() - 0.1
        total = total + weight * masked_mean(distance, valid)
    return total


def smoothness(flows: list[Tensor]) -> Tensor:
    """Sum over scales the mean absolute second differences of the flow along x and y."""
    return sum(difference.abs().mean() for flow in flows for difference in second_differences(flow))


def border(flow: Tensor, valid: Tensor) -> Tensor:
    """Average the distance in pixels of ``p + flow(p)`` from the frame (0 inside) over ``valid``: border suppression.

    The distance along an axis is ``max(0, -x) + max(0, x - last)``. ``valid`` ``(B, 1, H, W)`` marks the pixels whose
    true partner is inside the frame, where the warp must not sample outside it. The paper names such a term without a
    formula; this one is ours.
    """
    height, width = flow.shape[-2:]
    position = pixel_grid(height, width, like=flow) + flow
    last = per_axis(width - 1, height - 1, like=flow)
    outside = (-position).clamp(min=0) + (position - last).clamp(min=0)
    return masked_mean(outside.sum(dim=1, keepdim=True), valid)
