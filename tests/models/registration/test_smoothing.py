"""Smoothing transforms over time: jitter goes, a drift stays, an outlier hardly counts, and little is read ahead."""

import pytest
import torch

from models.registration.averaging import anchors, distance
from models.registration.smoothing import Smoother
from models.registration.transform import Transform

VI, IR = (192, 144), (128, 96)


def moved(x: float, y: float = 0.0) -> Transform:
    """A transform that is off by (x, y) px of VI from that of the fitted frames."""
    move = torch.eye(3, dtype=torch.float64)
    move[:2, 2] = torch.tensor([x, y])
    return Transform(Transform.of_frames(VI, IR).vi_to_ir @ move, VI, IR)


def apart(first: Transform, second: Transform) -> float:
    return distance(first, second, anchors(second))


def test_jitter_is_averaged_out_and_a_drift_followed_to_its_ends():
    jitter = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).tolist()
    keys = [(10.0 * i, moved(0.05 * 10 * i + x, y)) for i, (x, y) in enumerate(jitter)]
    smoother = Smoother(keys, 50.0)
    errors = [apart(smoother.at(t), moved(0.05 * t)) for t in range(0, 391, 5)]
    raw = [apart(key, moved(0.05 * t)) for t, key in keys]
    assert sum(errors) / len(errors) < 0.45 * sum(raw) / len(raw)
    steady = Smoother([(10.0 * i, moved(0.5 * i)) for i in range(40)], 50.0)
    assert max(apart(steady.at(t), moved(0.05 * t)) for t in range(100, 291, 10)) < 0.05  # no lag


def test_a_wrong_key_counts_for_next_to_nothing():
    keys = [(float(i), moved(40.0 if i == 7 else 0.1 * (i % 2))) for i in range(15)]
    smoother = Smoother(keys, 3.0)
    assert max(apart(smoother.at(float(t)), moved(0.05)) for t in range(15)) < 0.3


def test_refused_keys_are_bridged():
    keys = [(0.0, None), (10.0, moved(0)), (20.0, None), (30.0, moved(4)), (40.0, None)]
    smoother = Smoother(keys, 1.0)
    found = [apart(smoother.at(t), moved(0)) for t in (0.0, 10.0, 20.0, 25.0, 40.0)]
    assert found == pytest.approx([0, 0, 2, 3, 4], abs=0.01)
    assert Smoother([(0.0, None), (1.0, None)], 1.0).at(0.0) is None


def test_one_transform_stays_itself():
    rig = moved(3)
    smoother = Smoother([(0.0, rig)], 50.0)
    assert smoother.at(0.0) is rig and smoother.at(1e5) is rig


def test_keys_are_drawn_only_as_far_as_they_count():
    drawn = []

    def keys():
        for i in range(1000):
            drawn.append(i)
            yield 10.0 * i, moved(0)

    smoother = Smoother(keys(), 20.0)
    for t in (0.0, 100.0, 500.0):
        smoother.at(t)
        assert drawn[-1] * 10 <= t + 2.5 * 20 + 10
    assert len(smoother._near) <= 12
