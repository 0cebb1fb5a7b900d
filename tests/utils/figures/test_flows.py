"""Pictures of flows: the right colours for directions and lengths, lines where the warp puts them."""

import pytest
import torch

from models.warping import pixel_grid
from utils.figures.flows import flow_colours, warped_grid

LEVEL = 1.01 / 255  # colours are whole levels of 8 bits, rounded down


def test_the_wheel():
    flow = torch.zeros(2, 64, 64)
    flow[0, :, :16], flow[0, :, 16:32], flow[1, :, 32:48] = 8, -8, 4
    picture = flow_colours(flow)
    assert picture.shape == (3, 64, 64) and picture.min() >= 0 and picture.max() <= 1
    right, left, down, none = (picture[:, 0, x] for x in (0, 20, 40, 60))
    assert torch.allclose(right, torch.tensor([1.0, 0, 0]), atol=LEVEL)
    assert torch.allclose(none, torch.ones(3), atol=LEVEL)
    assert left[0] < 0.2 and left[2] > 0.9  # opposite of red: between cyan and blue
    assert down.min() == pytest.approx(0.5, abs=LEVEL)  # half the length, half the saturation


def test_the_reach_sets_the_scale():
    flow = torch.zeros(2, 60, 60)
    flow[0] = 5
    assert torch.allclose(flow_colours(flow, reach=20)[:, 0, 0], torch.tensor([1.0, 0.75, 0.75]), atol=LEVEL)
    assert torch.allclose(flow_colours(flow, reach=2)[:, 0, 0], torch.tensor([1.0, 0, 0]), atol=LEVEL)
    assert torch.allclose(flow_colours(0 * flow)[:, 0, 0], torch.ones(3), atol=LEVEL)


def test_the_wheel_turns_without_a_step_but_the_standard_one_to_the_right():
    angle = torch.linspace(0, 2 * torch.pi, 1441)[:-1].expand(48, 1440)
    picture = flow_colours(torch.stack((angle.cos(), angle.sin())), reach=1)[:, 0, :1280]
    assert picture.diff(dim=1).abs().max() < 0.05
    # The published code's wheel of 55 steps ends one short of the red it begins with.
    seam = flow_colours(torch.tensor([1.0, -1e-4]).view(2, 1, 1).expand(2, 48, 48), reach=1)[:, 0, 0]
    assert torch.allclose(seam, torch.tensor([1.0, 0, 43 / 255]), atol=LEVEL)


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
