"""The flow convention, on cases worked by hand."""

import math

import torch

from models.warping import (
    compose,
    content_mask,
    flow_to_grid,
    flow_to_published,
    grid_to_flow,
    invert,
    pixel_grid,
    published_to_flow,
    resize_flow,
    sample,
    sample_reduced,
    valid_mask,
    warp,
)


def constant_flow(dx, dy, height=7, width=9):
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, height, width).clone()


def rotation_flow(degrees, height=40, width=56):
    grid = pixel_grid(height, width, like=torch.zeros(1))
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = (grid - centre).unbind(1)
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=1) + centre - grid


def smooth_image(height=40, width=56):
    x, y = pixel_grid(height, width, like=torch.zeros(1)).unbind(1)
    return (0.5 + 0.25 * torch.sin(x / 5) + 0.25 * torch.cos(y / 4))[None]


def test_zero_flow_is_the_identity():
    image = torch.rand(2, 3, 7, 9)
    assert torch.allclose(warp(image, torch.zeros(2, 2, 7, 9)), image, atol=1e-6)
    assert valid_mask(torch.zeros(2, 2, 7, 9)).min() == 1


def test_positive_x_reads_from_the_right_and_positive_y_from_below():
    image = torch.arange(63.0).view(1, 1, 7, 9)
    right = warp(image, constant_flow(2.0, 0.0))
    assert torch.allclose(right[..., :7], image[..., 2:], atol=1e-4)
    assert torch.allclose(right[..., 7:], torch.zeros(1), atol=1e-4)
    below = warp(image, constant_flow(0.0, 3.0))
    assert torch.allclose(below[..., :4, :], image[..., 3:, :], atol=1e-4)


def test_half_a_pixel_is_the_mean_of_two():
    image = torch.tensor([[[[0.0, 1.0, 4.0]]]])
    shifted = warp(image, constant_flow(0.5, 0.0, 1, 3))
    assert torch.allclose(shifted, torch.tensor([0.5, 2.5, 2.0]), atol=1e-6)


def test_an_image_finer_than_the_result_is_sampled_without_aliasing():
    ramp, stripes = torch.linspace(0, 1, 160).expand(1, 1, 120, 160), torch.tensor([0.0, 1.0]).repeat(80)
    positions = 4 * pixel_grid(28, 38, like=ramp) + torch.tensor([4.3, 5.1]).view(1, 2, 1, 1)
    # Content keeps its place; what is finer than the result becomes its mean.
    assert torch.allclose(sample_reduced(ramp, positions), sample(ramp, positions), atol=1e-3)
    fine = stripes.expand(1, 1, 120, 160)
    assert (sample(fine, positions) - 0.5).abs().max() > 0.15
    assert (sample_reduced(fine, positions) - 0.5).abs().max() < 0.02
    near = positions / 3.9
    assert torch.equal(sample_reduced(fine, near, finest=1.5), sample(fine, near))


def test_valid_mask_ends_at_the_last_pixel_centre():
    valid = valid_mask(constant_flow(2.0, -1.0))[0, 0]
    expected = torch.zeros(7, 9)
    expected[1:, :7] = 1
    assert torch.equal(valid, expected)
    assert torch.equal(valid_mask(constant_flow(2.0, 0.0), size=(7, 11)), torch.ones(1, 1, 7, 9))


def test_content_is_what_no_run_of_zeros_joins_to_an_edge():
    image = torch.ones(1, 1, 5, 6)
    image[..., 0, :] = 0
    image[..., 1:3, 5] = 0
    image[..., 3, 2] = 0  # a black pixel inside
    expected = torch.ones(5, 6)
    expected[0] = 0
    expected[1:3, 5] = 0
    assert torch.equal(content_mask(image)[0, 0], expected)


def test_resized_flow_moves_the_resized_image_alike():
    flow = resize_flow(constant_flow(3.0, -2.0, 8, 12), (16, 36))
    assert flow.shape == (1, 2, 16, 36)
    assert torch.allclose(flow[0, :, 5, 5], torch.tensor([9.0, -4.0]))


def test_compose_equals_two_warps():
    image, first, second = smooth_image(), rotation_flow(6), constant_flow(1.5, -2.25, 40, 56)
    twice = warp(warp(image, first), second)
    once = warp(image, compose(first, second))
    inside = (slice(None), slice(None), slice(12, 28), slice(12, 44))
    assert torch.allclose(once[inside], twice[inside], atol=0.01)
    # The order matters, so a swapped composition would be noticed.
    assert not torch.allclose(compose(first, second)[inside], compose(second, first)[inside], atol=0.05)


def test_the_inverse_of_a_rotation_is_the_opposite_rotation():
    inverse = invert(rotation_flow(8))
    assert torch.allclose(inverse[:, :, 8:-8, 8:-8], rotation_flow(-8)[:, :, 8:-8, 8:-8], atol=1e-3)


def test_inverse_undoes_the_warp():
    flow = rotation_flow(5)
    residual = compose(flow, invert(flow))[:, :, 8:-8, 8:-8]
    assert residual.abs().max() < 1e-3


def test_grids_of_the_authors_test_sets():
    # From the format's definition: in pixels x = ((g + 1) W - 1) / 2.
    grid = torch.zeros(1, 4, 6, 2)
    flow = grid_to_flow(grid)
    assert torch.allclose(flow[0, 0, 0], 2.5 - torch.arange(6.0))
    assert torch.allclose(flow[0, 1, :, 0], 1.5 - torch.arange(4.0))
    random = torch.randn(1, 2, 4, 6)
    assert torch.allclose(grid_to_flow(flow_to_grid(random)), random, atol=1e-5)


def test_the_published_zero_displacement_magnifies_by_half_a_pixel_at_the_border():
    flow = published_to_flow(torch.zeros(1, 2, 5, 9))
    assert torch.allclose(flow[0, 0, 0, [0, 4, 8]], torch.tensor([-0.5, 0.0, 0.5]))
    assert torch.allclose(flow[0, 1, [0, 2, 4], 0], torch.tensor([-0.5, 0.0, 0.5]))
    random = torch.randn(1, 2, 5, 9)
    assert torch.allclose(flow_to_published(published_to_flow(random)), random, atol=1e-5)


def test_gradients_reach_image_and_flow():
    image = smooth_image(8, 8).double().requires_grad_()
    flow = (0.3 + 0.1 * torch.rand(1, 2, 8, 8, dtype=torch.double)).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, flow), eps=1e-6, atol=1e-4)
