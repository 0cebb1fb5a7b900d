"""The affine map that most of a flow agrees on: exact for turns, blind to outliers, and a share of the rest."""

import math

import pytest
import torch

from models.consensus import affine_consensus
from models.warping import pixel_grid

SIZE = (96, 128)


def affine_flow(matrix, size=SIZE):
    """``matrix`` (2, 3), acting on the pixels relative to the centre, minus the identity; (1, 2, H, W)."""
    height, width = size
    grid = pixel_grid(height, width, like=torch.zeros(1))
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
    matrix = torch.tensor(matrix)
    moved = torch.einsum("ij,bjhw->bihw", matrix[:, :2], grid - centre) + matrix[:, 2].view(1, 2, 1, 1)
    return moved - (grid - centre)


COS, SIN = math.cos(0.1), math.sin(0.1)
TRUE = affine_flow([[COS, -SIN, 5.0], [SIN, COS, -3.0]])
ONES = torch.ones(1, 1, *SIZE)


def test_a_turn_and_a_shift_stay_as_they_are():
    for local in (0.0, 0.4):
        assert (affine_consensus(TRUE, ONES, local) - TRUE).abs().max() < 1e-3


@pytest.mark.parametrize("stretch, least, most", [(1.01, 0.8, 0.92), (1.05, 0.98, 0.9995), (1.2, 0.9998, 1.0001)])
def test_a_small_stretch_is_taken_back_in_part_and_a_large_one_is_kept(stretch, least, most):
    flow = affine_flow([[stretch, 0.0, 0.0], [0.0, stretch, 0.0]])
    found = affine_consensus(flow, ONES, 0.0)
    assert least < (found * flow).sum() / flow.square().sum() < most


def test_what_disagrees_does_not_count():
    flow = TRUE.clone()
    flow[:, 0, :, :20] += 6
    flow[:, 1, 60:, 100:] -= 10
    assert (affine_consensus(flow, ONES, 0.0) - TRUE).abs().max() < 0.1
    # ... and of what disagrees nothing is kept.
    assert (affine_consensus(flow, ONES, 0.4) - TRUE).abs().max() < 0.1


def test_vectors_of_weight_zero_do_not_count():
    flow, weight = TRUE.clone(), ONES.clone()
    flow[:, :, :, 40:] += 20  # most of the image
    weight[:, :, :, 40:] = 0
    assert (affine_consensus(flow, weight, 0.0) - TRUE).abs().max() < 0.05
    # Without any that counts, nothing moves.
    assert affine_consensus(flow, 0 * weight, 0.0).abs().max() < 1e-3


def test_a_share_of_the_rest_is_kept():
    x = pixel_grid(*SIZE, like=ONES)[:, :1]
    wave = torch.cat((0.05 * torch.sin(x / 5), 0 * x), dim=1)  # far below the scale at which vectors count less
    rest = affine_consensus(TRUE + wave, ONES, 0.4) - affine_consensus(TRUE + wave, ONES, 0.0)
    assert (rest - 0.4 * wave).abs().max() < 0.006  # a little of the wave is affine


def test_every_flow_of_a_batch_has_its_own_map():
    other = affine_flow([[1.0, 0.0, -8.0], [0.0, 1.0, 2.0]])
    both = affine_consensus(torch.cat((TRUE, other)), ONES.expand(2, -1, -1, -1), 0.4)
    assert (both - torch.cat((TRUE, other))).abs().max() < 1e-3


@pytest.mark.parametrize("factor", [1, 3])
def test_what_is_an_outlier_grows_with_the_image(factor):
    size = tuple(factor * side for side in SIZE)
    flow = affine_flow([[1.0, 0.0, 5.0], [0.0, 1.0, -3.0]], size)
    moved = flow.clone()
    moved[:, 0, :, : size[1] // 3] += 2 * factor
    error = (affine_consensus(moved, torch.ones(1, 1, *size), 0.0) - flow).norm(dim=1).max().item() / factor
    assert error == pytest.approx(error_at_the_first_size(), rel=0.2)


def error_at_the_first_size():
    flow = affine_flow([[1.0, 0.0, 5.0], [0.0, 1.0, -3.0]])
    moved = flow.clone()
    moved[:, 0, :, : SIZE[1] // 3] += 2
    return (affine_consensus(moved, ONES, 0.0) - flow).norm(dim=1).max().item()


def test_the_gradient_reaches_the_flow():
    flow = TRUE.clone().requires_grad_()
    affine_consensus(flow, ONES, 0.4).square().sum().backward()
    assert flow.grad.isfinite().all() and flow.grad.abs().sum() > 0
