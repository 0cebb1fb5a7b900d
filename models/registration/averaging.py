"""Distances between transforms of the same two cameras, and their means: for rigs and for videos.

Transforms are compared at *anchors*, points of VI that IR shows. A mean takes each point to the mean of its positions;
its homography is fitted at the anchors by least squares, and the displacement is what remains, if there was any.
"""

from collections.abc import Sequence

import torch
from kornia.geometry.homography import find_homography_dlt
from torch import Tensor

from models.registration.transform import Transform
from models.warping import pixel_grid

_ACROSS = 16  # anchors along VI's longer side
_FEWEST = 9  # anchors, for a homography
_ROUNDS, _ENOUGH = 10, 0.01  # of the iteration, which ends when no weight changes by more
_FINEST = 0.5 / 640  # of VI's width: differences below it are noise of the estimates


def anchors(transform: Transform) -> Tensor:
    """Return a grid of points ``(N, 2)`` of VI, float64, that lie in IR; the whole grid where few of it do."""
    size = transform.vi_to_ir.new_tensor(transform.vi_size)
    across, down = (max(3, round(_ACROSS * n / max(transform.vi_size))) for n in transform.vi_size)
    grid = pixel_grid(down, across, transform.vi_to_ir).flatten(2)[0].T + 0.5
    points = grid * size / size.new_tensor([across, down]) - 0.5
    positions = transform.to_ir(points)
    inside = ((positions >= 0) & (positions <= size.new_tensor(transform.ir_size) - 1)).all(dim=1)
    return points[inside] if int(inside.sum()) >= _FEWEST else points


def distance(first: Transform, second: Transform, points: Tensor) -> float:
    """Average over ``points`` ``(N, 2)`` of VI how far apart the points are that IR shows where they are, in VI's px.

    For a point p of VI, ``first`` names a point of IR, whose partner in VI is, by ``second``, another point than p.
    """
    return float((second.to_vi(first.to_ir(points)) - points).norm(dim=1).mean())


def weighted_mean(transforms: Sequence[Transform], weights: Tensor, points: Tensor) -> Transform:
    """Average transforms by ``weights`` ``(N,)``, with anchors ``points`` ``(P, 2)``. The weights are divided by their
    sum; some may be negative, as those of a regression are.
    """
    shares = (weights / weights.sum()).tolist()

    def to(at: Tensor) -> Tensor:
        return torch.stack([share * transform.to_ir(at) for share, transform in zip(shares, transforms) if share]).sum(
            0
        )

    matrix = find_homography_dlt(points[None], to(points)[None])[0]
    first = transforms[0]
    return first.rebuilt(matrix / matrix[2, 2], first.vi_size, first.ir_size, list(transforms), to)


def robust_mean(transforms: Sequence[Transform], weights: Tensor) -> tuple[Transform, Tensor]:
    """Average transforms by ``weights`` ``(N,)``, less the farther one lies from the mean (Cauchy's weights, by
    iteration from the most central transform).

    Returns the mean and the weights ``(N,)`` that it took.
    """
    mean, taken = most_central(transforms, weights), weights
    points = anchors(mean)
    for _ in range(_ROUNDS):
        before, taken = taken, weights * cauchy_weights([distance(t, mean, points) for t in transforms], mean)
        mean = weighted_mean(transforms, taken, points)
        if float((taken - before).abs().max()) < _ENOUGH:
            break
    return mean, taken


def most_central(transforms: Sequence[Transform], weights: Tensor) -> Transform:
    """Return the transform nearest to the median of all, at the anchors of the one with the largest weight."""
    points = anchors(transforms[int(weights.argmax())])
    positions = torch.stack([transform.to_ir(points) for transform in transforms])
    offsets = (positions - positions.median(dim=0).values).norm(dim=2).mean(dim=1)
    return transforms[int(offsets.argmin())]


def cauchy_weights(distances: Sequence[float], mean: Transform) -> Tensor:
    """Return weights ``(N,)`` in [0, 1], float64, from the ``distances`` to a ``mean``, in px of its VI.

    The scale is 1.5 times their median, so that half of the weights are above 0.7.
    """
    values = torch.tensor(distances, dtype=torch.float64)
    scale = (1.4826 * values.median()).clamp(min=_FINEST * mean.vi_size[0])
    return 1 / (1 + (values / scale).square())
