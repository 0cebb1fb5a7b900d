"""Registration errors in pixels, against a known displacement (the paper does not define its RE; this is ours).

``true`` is the displacement d stored with a test pair, ``ir_warp(q) = ir(q + d(q))``; ``estimated`` is the
``flow_ir2vi`` phi that warps ``ir_warp`` back onto VI's frame, ``registered(p) = ir_warp(p + phi(p))``. The ideal phi
is phi*, the inverse of d. Both are ``(B, 2, H, W)`` in pixels. All errors are over the pixels whose true partner ``p +
phi*(p)`` is inside ``ir_warp``; where p + phi(p) leaves the frame, d continues with its edge values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.warping import compose, invert, valid_mask
from utils.metrics.registry import Metric, lower


def end_point_error(estimated: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """EPE: ``|phi(p) - phi*(p)|`` ``(B, 1, H, W)`` in pixels, and the valid mask of the same shape."""
    inverse = invert(true)
    return (estimated - inverse).norm(dim=1, keepdim=True), valid_mask(inverse)


def reprojection_error(estimated: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """RE: ``|q + d(q) - p|`` at ``q = p + phi(p)``, ``(B, 1, H, W)`` in pixels, and the valid mask."""
    residual = compose(true, estimated)
    return residual.norm(dim=1, keepdim=True), valid_mask(invert(true))


def folding(flow: Tensor, valid: Tensor) -> Tensor:
    """Compute the share of ``valid`` pixels where the warp by ``flow`` folds: its Jacobian determinant is <= 0.

    The Jacobian of p + flow(p), from forward differences; ``flow`` ``(1, 2, H, W)``, ``valid`` ``(1, 1, H, W)``.
    """
    along_x = (flow[:, :, :, 1:] - flow[:, :, :, :-1])[:, :, :-1]
    along_y = (flow[:, :, 1:] - flow[:, :, :-1])[:, :, :, :-1]
    determinant = (1 + along_x[:, 0]) * (1 + along_y[:, 1]) - along_x[:, 1] * along_y[:, 0]
    return (determinant[valid[:, 0, :-1, :-1] > 0] <= 0).double().mean()


@dataclass
class Errors:
    """Errors of one pair in pixels, over its valid pixels ``(N,)``; ``flow`` and ``valid`` as in :func:`folding`."""

    epe: Tensor
    re: Tensor
    flow: Tensor
    valid: Tensor


def _share_above(limit: float) -> Metric:
    """Make the metric that is the share of pixels whose EPE exceeds ``limit`` pixels."""
    return lower(lambda errors: (errors.epe > limit).double().mean())


METRICS: dict[str, Metric] = {
    "EPE": lower(lambda errors: errors.epe.mean()),
    "RE": lower(lambda errors: errors.re.mean()),
    "EPE_median": lower(lambda errors: errors.epe.median()),
    "EPE_p95": lower(lambda errors: torch.quantile(errors.epe.double(), 0.95)),
    "EPE_above_1px": _share_above(1),
    "EPE_above_3px": _share_above(3),
    "EPE_above_5px": _share_above(5),
    "folding": lower(lambda errors: folding(errors.flow, errors.valid)),
}


def registration_metrics(estimated: Tensor, true: Tensor) -> dict[str, float]:
    """Compute the :data:`METRICS` of one pair (batch of one).

    They are EPE and RE in pixels; median and 95th percentile of the EPE, and its shares of pixels above 1, 3 and 5 px;
    and the share of pixels where the estimated warp folds.

    Raises ValueError if the sizes differ or a flow holds values that are not finite.
    """
    if estimated.shape != true.shape or len(true) != 1:
        raise ValueError(f"flows of shapes {tuple(estimated.shape)} and {tuple(true.shape)}; both must be (1, 2, H, W)")
    if not (estimated.isfinite().all() and true.isfinite().all()):
        raise ValueError("a flow holds values that are not finite")
    error, valid = end_point_error(estimated, true)
    reprojection, _ = reprojection_error(estimated, true)
    errors = Errors(error[valid > 0], reprojection[valid > 0], estimated, valid)
    return {name: float(metric(errors)) for name, metric in METRICS.items()}
