"""Washing out, seams and hidden structure, on pictures whose values follow by hand."""

import math

import pytest
import torch

from utils.metrics.fusion import fusion_metrics

SIZE = 64


def constant(level: float) -> torch.Tensor:
    return torch.full((SIZE, SIZE), float(level), dtype=torch.float64)


def waves(amplitude: float, period: float) -> torch.Tensor:
    """Vertical stripes around 128, whole numbers."""
    x = torch.arange(SIZE, dtype=torch.float64)
    return (128 + amplitude * torch.sin(2 * math.pi * x / period)).round().expand(SIZE, SIZE)


def score(name, ir, vi, fused) -> float:
    return fusion_metrics(ir, vi, fused, [name])[name]


def test_washed_out_counts_the_well_exposed_area_that_moves():
    vi, fused = constant(100), constant(100)
    fused[:32] = 160  # the average by sigma 2 moves by 0.15 of the range at about the border
    assert score("washed_out", constant(0), vi, fused) == pytest.approx(0.5, abs=0.05)
    fused[:32] = 136  # by 0.141
    assert score("washed_out", constant(0), vi, fused) == 0
    vi[:, :32] = 20  # too dark to count
    fused = vi.clone()
    fused[:, :24] = 250
    assert score("washed_out", constant(0), vi, fused) == 0
    assert score("washed_out", constant(0), constant(20), constant(90)) == 0  # nothing is well exposed


def test_washed_out_counts_darkening_too():
    assert score("washed_out", constant(0), constant(150), constant(100)) == 1


def test_a_patch_of_the_other_source_has_a_seam():
    ir, vi = waves(60, 16), constant(128)
    assert score("seams", ir, vi, ir) == score("seams", ir, vi, vi) == 0
    assert score("seams", ir, vi, (ir + vi) / 2 // 1) == 0  # no gradient is stronger than the sources' own
    patch = vi + 90
    patch[:, 40:] = ir[:, 40:]
    hard = score("seams", ir, vi + 90, patch)
    assert hard > 0.03
    share = ((torch.arange(SIZE, dtype=torch.float64) - 24) / 32).clamp(0, 1)
    assert score("seams", ir, vi + 90, torch.lerp(vi + 90, ir, share).round()) < hard / 4


def test_seams_of_a_step_by_hand():
    """A step of height h over a source with a step of height s elsewhere: h^2 / s^2."""
    ir, fused = constant(0), constant(0)
    ir[:, :20] = 80
    fused[:, :20] = 80
    fused[:, 44:] = 40
    assert score("seams", ir, constant(0), fused) == pytest.approx((40 / 80) ** 2, rel=1e-6)


def test_hidden_structure_is_kept_or_not():
    ir, vi = waves(60, 8), constant(200)
    assert score("hidden_shown", ir, vi, vi) == 0
    assert score("hidden_shown", ir, vi, ir) == pytest.approx(1)
    assert score("hidden_shown", ir, vi, vi - 128 + ir - 60) == pytest.approx(1)  # whatever its brightness
    assert score("hidden_shown", ir, vi, waves(30, 8)) == pytest.approx(0.5, abs=0.02)
    assert score("hidden_shown", ir, vi, waves(120, 8)) == pytest.approx(1)  # no reward for exaggeration
    assert score("hidden_shown", ir, vi, 256 - ir) == 0  # inverted is not shown
    assert score("hidden_shown", ir, waves(60, 8), vi) == 1  # nothing is hidden where VI shows as much
    assert score("hidden_shown", constant(9), vi, vi) == 1
