"""Measured values survive a warp: not stretched, not rounded, and nothing is made up where nothing was seen."""

import pytest
import torch

from models.registration.measurements import warp_values
from models.registration.transform import Transform

VI, IR = (200, 150), (160, 120)  # width, height
MATRIX = torch.tensor([[0.9, 0.05, -8.0], [-0.04, 0.85, 6.0], [2e-5, 1e-5, 1.0]], dtype=torch.float64)


def ramp(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Degrees that rise by a quarter along a pixel to the right and fall by a half along one downwards."""
    return -20 + 0.25 * x - 0.5 * y


def file_and_expected() -> tuple[torch.Tensor, torch.Tensor]:
    """A thermal file with the ramp, and the ramp at the positions of VI's pixels in it, NaN outside."""
    y, x = torch.meshgrid(torch.arange(IR[1]), torch.arange(IR[0]), indexing="ij")
    v, u = torch.meshgrid(torch.arange(VI[1]).double(), torch.arange(VI[0]).double(), indexing="ij")
    points = torch.stack((u, v, torch.ones_like(u)), dim=-1) @ MATRIX.T
    at = points[..., :2] / points[..., 2:]
    inside = ((at >= 0) & (at <= at.new_tensor(IR) - 1)).all(dim=-1)
    return ramp(x, y).float()[None], torch.where(inside, ramp(*at.unbind(-1)), torch.nan)[None]


def test_a_ramp_survives_a_known_map():
    values, expected = file_and_expected()
    found = warp_values(values, Transform(MATRIX, VI, IR))
    assert found.shape == (1, *VI[::-1]) and found.dtype == torch.float32
    assert (found - expected).abs().nan_to_num(0).max() < 1e-3
    assert (found.isnan() != expected.isnan()).float().mean() < 0.001 and 0.05 < found.isnan().float().mean() < 0.9


def test_nearest_values_are_those_of_the_file():
    counts = torch.arange(IR[0] * IR[1]).float().view(1, IR[1], IR[0]) + 7000
    found = warp_values(counts, Transform(MATRIX, VI, IR), "nearest")
    seen = found[~found.isnan()]
    assert torch.equal(seen, seen.round()) and seen.min() >= 7000 and seen.unique().numel() > 9000


def test_what_is_missing_does_not_spread():
    values, expected = file_and_expected()
    values[0, 60, 80] = torch.nan
    values[0, 20, 30] = torch.inf
    found = warp_values(values, Transform(MATRIX, VI, IR))
    new = found.isnan() & ~expected.isnan()
    assert 2 <= int(new.sum()) <= 16
    assert (found - expected)[~found.isnan() & ~expected.isnan()].abs().max() < 1e-3
    identity = Transform.of_frames(IR, IR)
    assert torch.equal(warp_values(values, identity).isnan(), ~values.isfinite())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="the array is 10x10, the file 160x120"):
        warp_values(torch.zeros(1, 10, 10), Transform(MATRIX, VI, IR))
    with pytest.raises(ValueError, match="interpolation 'cubic'"):
        warp_values(torch.zeros(1, 120, 160), Transform(MATRIX, VI, IR), "cubic")
