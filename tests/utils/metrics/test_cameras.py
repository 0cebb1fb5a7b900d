"""Errors of unlike cameras on maps whose errors are known, and their summary on sets counted by hand."""

import pytest
import torch

from models.warping import pixel_grid
from utils.figures.tables import direction
from utils.metrics import cameras
from utils.metrics.cameras import (
    camera_metrics,
    fitted_frames,
    map_positions,
    mean_error,
    summarise_accepted,
    summarise_errors,
)

VI, IR = (30, 40), (60, 100)  # height, width


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


# x_ir = 2 x + 10, y_ir = 2 y: all of VI lies in IR.
DOUBLED = matrix([2, 0, 10], [0, 2, 0], [0, 0, 1])


def test_a_shift_counts_in_pixels_of_vi_at_a_width_of_640():
    # 6 and 8 px of IR are 3 and 4 of VI, 5 together; 640 / 40 = 16 times as much at a width of 640.
    shifted = matrix([2, 0, 16], [0, 2, 8], [0, 0, 1])
    assert camera_metrics(map_positions(DOUBLED, VI), DOUBLED, IR) == pytest.approx({"error_640": 0}, abs=1e-9)
    assert camera_metrics(map_positions(shifted, VI), DOUBLED, IR) == {"error_640": pytest.approx(80)}
    assert mean_error(map_positions(shifted, VI).float(), 3 * DOUBLED, IR) == pytest.approx(80, rel=1e-5)
    assert mean_error(map_positions(-shifted, VI), -DOUBLED, IR) == pytest.approx(80)


def test_only_what_ir_shows_counts():
    # Columns 0 to 19 have their partners at 60 to 98, column 20 at 100, beyond the last centre, 99.
    true = matrix([2, 0, 60], [0, 1, 0], [0, 0, 1])
    positions = map_positions(true, VI)
    positions[0, :, 10:] += 2
    positions[:, :, 20:] = 1e6
    assert mean_error(positions, true, IR) == pytest.approx(16 * 10 / 20)
    with pytest.raises(ValueError, match="no pixel of VI lies in IR"):
        mean_error(positions, matrix([1, 0, 1000], [0, 1, 0], [0, 0, 1]), IR)


def test_a_perspective_map():
    true = matrix([2, 0.1, 5], [-0.1, 1.8, 8], [1e-3, 2e-3, 1])
    assert mean_error(map_positions(true, VI), true, IR) == pytest.approx(0, abs=1e-9)
    # Moved by (0.3, 0.4) in VI before it is mapped: 0.5 px everywhere.
    moved = true @ matrix([1, 0, 0.3], [0, 1, 0.4], [0, 0, 1])
    assert mean_error(map_positions(moved, VI), true, IR) == pytest.approx(0.5 * 16)


def test_lost_partners_count_as_far_as_the_diagonal():
    true = matrix([1, 0, 0], [0, 1, 0], [-0.02, 0, 1])
    # The inverse has its horizon at x = -50: partners behind it are in no place of VI.
    positions = torch.full((2, *VI), -60.0)
    assert mean_error(positions, true, IR) == pytest.approx(16 * 50)
    assert mean_error(torch.full((2, *VI), 1e9), DOUBLED, IR) == pytest.approx(16 * 50)
    positions[0, 3, 4] = torch.nan
    with pytest.raises(ValueError, match="holds values that are not finite"):
        mean_error(positions, true, IR)


def test_parts_give_what_the_whole_gives(monkeypatch):
    positions = map_positions(DOUBLED, VI) + torch.rand(2, *VI, generator=torch.Generator().manual_seed(0))
    whole = mean_error(positions, DOUBLED, IR)
    monkeypatch.setattr(cameras, "_AT_ONCE", 7)
    assert mean_error(positions, DOUBLED, IR) == pytest.approx(whole)


def test_fitted_frames_share_their_edges():
    positions = fitted_frames(VI, IR)
    # The outer edges, at -0.5 and 39.5 of VI, fall on -0.5 and 99.5 of IR; a pixel of VI covers 2.5 x 2 of IR.
    assert positions.shape == (2, *VI)
    assert positions[:, 0, 0].tolist() == pytest.approx([0.75, 0.5])
    assert positions[:, -1, -1].tolist() == pytest.approx([98.25, 58.5])
    assert torch.equal(fitted_frames(VI, VI), pixel_grid(*VI, like=positions)[0])


def test_the_summary_of_a_set():
    summary = summarise_errors([1.0, 3.0, 4.0, 12.0, 50.0])
    assert summary == pytest.approx(
        {
            "error_640": 14,
            "median_640": 4,
            "within_3px": 0.4,
            "within_5px": 0.6,
            "within_10px": 0.6,
            "within_20px": 0.8,
            "AUC_10px": (0.9 + 0.7 + 0.6) / 5,
            "AUC_20px": (0.95 + 0.85 + 0.8 + 0.4) / 5,
        }
    )
    assert summarise_errors([0.0, 0.0])["AUC_10px"] == 1 and summarise_errors([10.0])["AUC_10px"] == 0


def test_the_area_is_the_integral_of_the_empirical_distribution():
    errors = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 15
    steps = (torch.arange(10000) + 0.5) / 1000
    shares = (errors[None] <= steps[:, None]).double().mean(dim=1)
    assert summarise_errors(errors.tolist())["AUC_10px"] == pytest.approx(float(shares.mean()), abs=1e-4)


def test_the_accepted_pairs_of_a_set():
    errors = [1.0, 3.0, 40.0, 60.0]
    assert summarise_accepted(errors, [True, True, True, False]) == pytest.approx(
        {"accepted": 0.75, "accepted_error_640": 44 / 3, "accepted_worst_640": 40, "accepted_beyond_10px": 1}
    )
    nothing = {"accepted_error_640": None, "accepted_worst_640": None, "accepted_beyond_10px": None}
    assert summarise_accepted(errors, [False] * 4) == {"accepted": 0} | nothing


def test_every_figure_says_which_way_is_better():
    figures = summarise_errors([1.0]) | summarise_accepted([1.0], [True])
    assert {name for name in figures if direction(name) == 1} == {
        *(f"within_{limit}px" for limit in (3, 5, 10, 20)),
        *(f"AUC_{limit}px" for limit in (10, 20)),
    }
    # To accept more is good or bad, depending on what.
    assert {name for name in figures if direction(name) == 0} == {"accepted"}
    assert direction("error_640") == direction("error_640_after") == -1
