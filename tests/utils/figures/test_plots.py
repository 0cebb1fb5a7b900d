"""Pictures: the right pixels in the right places."""

import pytest
import torch

from models.warping import pixel_grid
from utils.figures.plots import (
    checkerboard,
    comparison,
    flow_colours,
    gradient_overlay,
    salient_boxes,
    sheet,
    warped_grid,
)


def test_checkerboard_alternates():
    board = checkerboard(torch.zeros(1, 64, 96), torch.ones(3, 64, 96), squares=8)
    assert board.shape == (3, 64, 96)
    assert board[0, ::8, ::8].tolist() == [[(i + j) % 2 for j in range(12)] for i in range(8)]
    assert board[:, :8, :8].max() == 0 and board[:, :8, 8:16].min() == 1


def test_the_wheel():
    flow = torch.zeros(2, 64, 64)
    flow[0, :, :16], flow[0, :, 16:32], flow[1, :, 32:48] = 8, -8, 4
    picture = flow_colours(flow)
    assert picture.shape == (3, 64, 64) and picture.min() >= 0 and picture.max() <= 1
    right, left, down, none = (picture[:, 0, x] for x in (0, 20, 40, 60))
    assert torch.allclose(right, torch.tensor([1.0, 0, 0]))
    assert torch.allclose(none, torch.ones(3))
    assert left[0] < 0.2 and left[2] > 0.9  # opposite of red: between cyan and blue
    assert down.min() == pytest.approx(0.5, abs=1e-4)  # half the reach, half the saturation


def test_the_reach_sets_the_scale():
    flow = torch.zeros(2, 60, 60)
    flow[0] = 5
    assert torch.allclose(flow_colours(flow, reach=20)[:, 0, 0], torch.tensor([1.0, 0.75, 0.75]))
    assert torch.allclose(flow_colours(flow, reach=2)[:, 0, 0], torch.tensor([1.0, 0, 0]))
    assert torch.allclose(flow_colours(0 * flow)[:, 0, 0], torch.ones(3))


def test_the_wheel_has_no_seam():
    angle = torch.linspace(-0.01, 0.01, 96).expand(48, 96)
    picture = flow_colours(torch.stack((angle.cos(), angle.sin())))[:, 0]
    assert picture.diff(dim=1).abs().max() < 0.01


def test_the_grid_is_straight_without_flow_and_moves_with_it():
    still = warped_grid(torch.zeros(2, 48, 48), step=12)
    assert still.shape == (3, 48, 48)
    assert still[:, ::12].max() < 0.2 and still[:, :, ::12].max() < 0.2
    assert still[:, 6::12, 6::12].min() == 1
    shift = torch.zeros(2, 48, 48)
    shift[0] = 5
    moved = warped_grid(shift, step=12)
    assert torch.equal(moved[:, :, :43], still[:, :, 5:])
    assert moved[:, :, 43:].unique().tolist() == [0.75]


def test_lines_keep_their_width_under_magnification():
    x, y = pixel_grid(96, 96, like=torch.zeros(1))[0]
    picture = warped_grid(torch.stack((-0.75 * x, -0.75 * y)), step=12)
    assert (picture[0, 24] < 0.5).sum() == 2  # at 0 and 48, one pixel each


def test_comparison_shows_crops_enlarged():
    image = torch.zeros(3, 60, 80)
    image[:, 30:40, 20:40] = 0.8
    original = image.clone()
    both = comparison({"one": image, "two": image[:1]}, [(20, 30, 20, 10), (0, 0, 10, 10)])
    assert torch.equal(image, original)
    height, width = both.shape[1:]
    crops = int((80 - 4) / (2 + 1))
    assert (height, width) == (26 + 60 + 4 + crops + 8, 2 * (80 + 8))
    top, left = 26 + 60 + 4, 4
    assert torch.allclose(both[:, top + crops // 2, left + crops], torch.full((3,), 0.8), atol=1e-3)
    assert torch.allclose(both[:, top + 1, left + 10], torch.tensor([0.95, 0.15, 0.15]))
    assert torch.allclose(both[:, 26 + 30, left + 25], torch.tensor([0.95, 0.15, 0.15]))
    assert both[:, top + crops // 2, left + 2 * crops + 4 + crops // 2].max() == 0
    assert torch.equal(both[:, 26:, :88], both[:, 26:, 88:])


@pytest.mark.parametrize("box", [(70, 0, 20, 10), (0, -1, 10, 10), (0, 0, 0, 10)])
def test_a_box_outside_is_refused(box):
    with pytest.raises(ValueError, match="does not lie inside images of 80x60"):
        comparison({"one": torch.zeros(3, 60, 80)}, [box])


def test_sheet_and_overlay():
    cells = sheet({"a": torch.zeros(1, 20, 40), "b": torch.ones(3, 20, 40)}, columns=3)
    assert cells.shape == (3, 46, 120) and cells[:, 26:, :40].max() == 0 and cells[:, :, 80:].min() == 1
    edge = torch.zeros(1, 20, 40)
    edge[:, :, 20:] = 1
    overlay = gradient_overlay(edge, torch.zeros(3, 20, 40))
    assert torch.allclose(overlay[:, 10, 20], torch.tensor([0.75, 0.1, 1.0]), atol=1e-3)
    assert overlay[:, 10, 5].max() < 1e-3


def test_salient_boxes_lie_on_the_strongest_gradients_and_apart():
    ir, vi = torch.zeros(1, 40, 80), torch.zeros(3, 40, 80)
    ir[:, 5:9, 60:70] = 1
    vi[:, 28:34, 10:18] = 1
    (l1, t1, w, h), (l2, t2, _, _) = salient_boxes(ir, vi)
    assert (w, h) == (20, 10)
    assert l1 <= 62 <= l1 + w and t1 <= 7 <= t1 + h
    assert l2 <= 14 <= l2 + w and t2 <= 31 <= t2 + h
    same = salient_boxes(ir, ir)
    assert abs(same[0][0] - same[1][0]) >= w or abs(same[0][1] - same[1][1]) >= h
