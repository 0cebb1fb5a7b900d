"""Smooth the transforms of a video's key frames over time, in the space of transforms, without looking far ahead.

At a time t, the positions of anchors (:mod:`models.registration.averaging`) under the transforms of nearby key frames
are fitted by a straight line over time. A key counts by a Gaussian of its distance from t, by its confidence, and less
the farther it is from the line. The line's value at t is a weighted mean of the transforms. So a steady drift is
followed without delay, and jitter is averaged out.
"""

from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor

from models.registration.averaging import anchors, cauchy_weights, weighted_mean
from models.registration.transform import Transform

_CUT = 2.5  # standard deviations at which the Gaussian ends
_ROUNDS = 5
# The variance of the slope that the line is drawn to, relative to the Gaussian's: a few keys give a mean, not a line.
_LEVEL = 0.3


class Smoother:
    """The smoothed transform at any time, from ``keys``: times, increasing, and transforms, None for a refused one.

    ``deviation`` is the Gaussian's, in units of time; where less than two keys are within its reach, time is divided
    between the neighbours. Keys are drawn from the iterator as late as possible, and forgotten when they are past.
    """

    def __init__(self, keys: Iterable[tuple[float, Transform | None]], deviation: float):
        self._keys, self._deviation, self._reach = iter(keys), deviation, _CUT * deviation
        self._near: deque[tuple[float, Transform]] = deque()
        self._ended = False

    def at(self, time: float) -> Transform | None:
        """Return the transform at ``time``, not before that of the last call; None if all keys were refused."""
        while not self._ended and (not self._near or self._near[-1][0] < time + self._reach):
            key = next(self._keys, None)
            self._ended = key is None
            if key is not None and key[1] is not None:
                self._near.append(key)
        while len(self._near) > 1 and self._near[1][0] <= time and self._near[0][0] < time - self._reach:
            self._near.popleft()
        if not self._near:
            return None
        near = [key for key in self._near if abs(key[0] - time) <= self._reach]
        if len(near) < 2:
            return self._between(time)
        times, transforms = zip(*near)
        return _regression(torch.tensor(times, dtype=torch.float64) - time, transforms, self._deviation)

    def _between(self, time: float) -> Transform:
        """Interpolate between the last key before ``time`` and the first one after; there may be one of them only."""
        before = [key for key in self._near if key[0] <= time][-1:]
        after = [key for key in self._near if key[0] > time][:1]
        if not (before and after):
            return (before or after)[0][1]
        (start, first), (end, second) = before[0], after[0]
        share = (time - start) / (end - start)
        return weighted_mean([first, second], torch.tensor([1 - share, share]), anchors(first))


def _regression(times: Tensor, transforms: tuple[Transform, ...], deviation: float) -> Transform:
    """Return the value at time 0 of the robust line through ``transforms`` at ``times`` ``(N,)``."""
    points = anchors(transforms[int(times.abs().argmin())])
    positions = torch.stack([transform.to_ir(points) for transform in transforms])  # (N, P, 2)
    scale = float(torch.linalg.det(transforms[0].vi_to_ir[:2, :2]).abs().sqrt())  # IR's pixels per pixel of VI
    weights = torch.exp(-(times / deviation).square() / 2)
    weights = weights * weights.new_tensor([max(transform.confidence, 1e-3) for transform in transforms])
    robust = torch.ones_like(weights)
    for _ in range(_ROUNDS):
        level, slope = (torch.tensordot(share, positions, 1) for share in _line(times, weights * robust, deviation))
        residuals = (positions - level - times.view(-1, 1, 1) * slope).norm(dim=2).mean(dim=1) / scale
        robust = cauchy_weights(residuals.tolist(), transforms[0])
    return weighted_mean(transforms, _line(times, weights * robust, deviation)[0], points)


def _line(times: Tensor, weights: Tensor, deviation: float) -> tuple[Tensor, Tensor]:
    """Return what each of N values at ``times`` ``(N,)`` contributes to their line's value at 0, and to its slope."""
    total, first = weights.sum(), (weights * times).sum()
    second = (weights * times.square()).sum() + _LEVEL * total * deviation**2
    determinant = total * second - first**2
    return weights * (second - first * times) / determinant, weights * (total * times - first) / determinant
