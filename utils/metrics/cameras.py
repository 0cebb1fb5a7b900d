"""Registration errors of unlike cameras, against the true map from VI's pixels to IR's; and their summary over a set.

For a pixel p of VI whose true partner lies inside the IR frame, an estimate q of that partner is off by
``|vi_to_ir^-1(q) - p|`` pixels of VI. Errors count at a VI width of 640 px, so those of large and small files compare.
Positions are in pixels of the images, x to the right and y downwards, centres at whole numbers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.warping import inside_mask, pixel_grid, resize_matrix
from utils.metrics.registry import Metric, higher, lower

WIDTH = 640  # of VI, to which errors are scaled
LIMIT = 10.0  # an accepted pair that is off by more is a failure

_AT_ONCE = 1 << 20  # pixels, for bounded memory on large files


def map_positions(matrix: Tensor, vi_size: Sequence[int]) -> Tensor:
    """Map the pixels of a VI image of ``vi_size`` (height, width) by ``matrix`` ``(3, 3)``; returns ``(2, H, W)``."""
    height, width = vi_size
    points = pixel_grid(height, width, like=matrix).flatten(2)[0]
    return _apply(matrix, points)[0].view(2, height, width)


def fitted_frames(vi_size: Sequence[int], ir_size: Sequence[int]) -> Tensor:
    """Return the positions ``(2, H, W)`` before registration: IR's frame scaled onto VI's. Sizes: (height, width)."""
    return map_positions(resize_matrix(vi_size, ir_size), vi_size)


def mean_error(positions: Tensor, vi_to_ir: Tensor, ir_size: Sequence[int]) -> float:
    """Average the error, in pixels at a VI width of 640, over the pixels of VI that IR shows.

    ``positions`` ``(2, H, W)``: for each pixel of VI, x and y of its estimated partner in IR's pixels; ``vi_to_ir``
    ``(3, 3)`` float64, the true map; ``ir_size`` (height, width). An error beyond VI's diagonal counts as that.

    Raises ValueError if positions are not finite, or no pixel of VI lies in IR.
    """
    if not positions.isfinite().all():
        raise ValueError("the map from VI to IR holds values that are not finite")
    height, width = positions.shape[-2:]
    inverse = torch.linalg.inv(vi_to_ir)
    points = pixel_grid(height, width, like=positions).flatten(2)[0]
    total, count = 0.0, 0
    for p, q in zip(points.split(_AT_ONCE, dim=1), positions.flatten(1).split(_AT_ONCE, dim=1)):
        true, in_front = _apply(vi_to_ir, p.double())
        shown = in_front & inside_mask(true.view(1, 2, 1, -1), ir_size).flatten()
        found, in_front = _apply(inverse, q.double()[:, shown])
        error = (found - p[:, shown]).norm(dim=0)
        error[~in_front] = torch.inf
        total += float(error.clamp(max=(height**2 + width**2) ** 0.5).sum())
        count += int(shown.sum())
    if not count:
        raise ValueError("by the true map no pixel of VI lies in IR")
    return total / count * WIDTH / width


def _apply(matrix: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """``points`` ``(2, N)`` mapped by ``matrix`` ``(3, 3)``, and ``(N,)`` whether they stay in front of the camera."""
    x, y, depth = matrix[:, :2] @ points + matrix[:, 2:]
    # A homography may be scaled by any number; its frame's origin is in front.
    return torch.stack((x, y)) / depth, depth * matrix[2, 2] > 0


METRICS: dict[str, Metric] = {"error_640": lower(mean_error)}


def camera_metrics(positions: Tensor, vi_to_ir: Tensor, ir_size: Sequence[int]) -> dict[str, float]:
    """Compute the :data:`METRICS` of one pair; arguments and errors as of :func:`mean_error`."""
    return {name: metric(positions, vi_to_ir, ir_size) for name, metric in METRICS.items()}


def _share_within(limit: float) -> Metric:
    """Share of the pairs whose error is at most ``limit`` px."""
    return higher(lambda errors: (errors <= limit).double().mean())


def _area_under_curve(limit: float) -> Metric:
    """Area under the share of pairs over the error, from 0 to ``limit`` px, as a share of the largest possible."""
    # A pair of error e counts from e on, so the step function's integral is a mean.
    return higher(lambda errors: (1 - errors / limit).clamp(min=0).mean())


SUMMARY: dict[str, Metric] = {
    "error_640": lower(lambda errors: errors.mean()),
    "median_640": lower(lambda errors: errors.quantile(0.5)),
    "within_3px": _share_within(3),
    "within_5px": _share_within(5),
    "within_10px": _share_within(10),
    "within_20px": _share_within(20),
    "AUC_10px": _area_under_curve(10),
    "AUC_20px": _area_under_curve(20),
}

# Over the errors of the accepted pairs.
ACCEPTED: dict[str, Metric] = {
    "accepted_error_640": lower(lambda errors: errors.mean()),
    "accepted_worst_640": lower(lambda errors: errors.max()),
    "accepted_beyond_10px": lower(lambda errors: (errors > LIMIT).sum()),
}


def summarise_errors(errors: Sequence[float]) -> dict[str, float]:
    """Compute the :data:`SUMMARY` of the pairs' errors in pixels at a VI width of 640; at least one."""
    values = torch.tensor(errors, dtype=torch.float64)
    return {name: float(metric(values)) for name, metric in SUMMARY.items()}


def summarise_accepted(errors: Sequence[float], accepted: Sequence[bool]) -> dict[str, float | None]:
    """Compute the share ``accepted`` of the pairs, and the :data:`ACCEPTED` of these, None if there are none."""
    chosen = torch.tensor(accepted, dtype=torch.bool)
    values = torch.tensor(errors, dtype=torch.float64)[chosen]
    figures = {name: float(metric(values)) if len(values) else None for name, metric in ACCEPTED.items()}
    return {"accepted": float(chosen.double().mean())} | figures
