"""Losses on flows: end-point error and smoothness. Flows are ``(B, 2, H, W)`` in pixels."""

from torch import Tensor

from models.warping import resize_flow

# Later scales matter more; the last flow is the result.
SCALE_WEIGHTS = (0.3, 0.5, 1.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``x`` where ``mask`` (broadcast to it, 0 to 1) is set; 0 if it is set nowhere."""
    mask = mask.expand_as(x)
    return (x * mask).sum() / mask.sum().clamp(min=1)


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
    total = flows[0].new_zeros(())
    for flow in flows:
        along_y = flow[:, :, 2:] - 2 * flow[:, :, 1:-1] + flow[:, :, :-2]
        along_x = flow[:, :, :, 2:] - 2 * flow[:, :, :, 1:-1] + flow[:, :, :, :-2]
        total = total + along_y.abs().mean() + along_x.abs().mean()
    return total
