"""The elastic remainder: known smooth displacements, no motion without evidence, and the parts it is made of."""

import pytest
import torch
import torch.nn.functional as F

from models.layers import blur, gaussian_kernel
from models.registration.affine import align
from models.registration.descriptors import Level, Picture
from models.registration.elastic import elastic
from models.warping import warp

SIZE = (96, 128)


def texture(seed: int) -> torch.Tensor:
    """A smooth random texture ``(1, 1, H, W)`` in [0.1, 0.9]."""
    noise = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(seed))
    image = sum(sigma * blur(noise - 0.5, gaussian_kernel(25, sigma), "replicate") for sigma in (1.0, 3.0))
    return 0.1 + 0.8 * (image - image.min()) / (image.max() - image.min())


def smooth_flow(seed: int, rms: float) -> torch.Tensor:
    """A random flow ``(1, 2, H, W)`` of that root mean square in px, smooth over a tenth of the longer side."""
    noise = torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(seed))
    flow = blur(noise, gaussian_kernel(51, 10.0), "replicate")
    return flow * (rms / flow.square().sum(1).mean().sqrt())


def level_of(ir: torch.Tensor, vi: torch.Tensor) -> Level:
    return align(Picture.of(ir), Picture.of(vi), torch.eye(3)[None], 640)


def displaced(ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    level = level_of(ir, vi)
    return elastic(level, level.frame.grid)


@pytest.mark.parametrize("seed", range(3))
def test_a_smooth_displacement_is_found_across_inverted_contrast(seed):
    vi, true = texture(seed), smooth_flow(seed, rms=0.8)
    # warp(vi, back) is what true takes back onto vi; for flows as small and smooth, its inverse is found by iteration.
    back = -true
    for _ in range(10):
        back = -warp(true, back)
    found = displaced(1 - 0.7 * warp(vi, back, padding="border"), vi)
    inside = (..., slice(8, -8), slice(8, -8))
    assert (found - true)[inside].norm(dim=1).mean() < 0.45 * true[inside].norm(dim=1).mean()


def test_nothing_moves_without_evidence():
    vi = texture(3)
    assert displaced((1 - vi).square(), vi).norm(dim=1).max() < 0.02
    flat = torch.full_like(vi, 0.5)
    assert displaced(flat, vi).norm(dim=1).max() < 1e-3 and displaced(vi, flat).norm(dim=1).max() < 1e-3


def test_unrelated_images_move_little():
    """Noise is not worth bending for: the displacement stays within two standard deviations of published ones."""
    found = displaced(texture(4), texture(5))
    assert found.square().mean().sqrt() < 0.0038 * SIZE[1]


def test_only_what_shows_something_moves():
    vi, shift = texture(6), 0.5
    ir = warp(vi, torch.full((1, 2, *SIZE), -shift) * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), padding="border")
    shown = F.pad(torch.ones(1, 1, SIZE[0], 40), (0, SIZE[1] - 40))
    found = displaced(ir * shown + 0.5 * (1 - shown), vi)
    assert found[:, 0, 20:-20, 8:24].mean() == pytest.approx(shift, abs=0.15)
    assert found[:, 0, :, -40:].abs().max() < 0.1 * shift


def test_a_comparison_is_what_it_says():
    """Half the mean squared difference is energy (1 - correlation)."""
    level = level_of(texture(7), (texture(7) + 0.2 * texture(8)).clamp(0, 1))
    compared = level.compare(level.frame.grid + 0.3)
    assert compared.weight.sum() == pytest.approx(1, rel=1e-5)
    half = ((compared.ir - level.vi).square().sum(1, keepdim=True) * compared.weight).sum() / 2
    assert half.item() == pytest.approx((compared.energy * (1 - compared.correlation)).item(), rel=1e-3)


def test_normal_equations_lead_back():
    level = level_of(texture(7), 1 - texture(7))
    shift = torch.tensor([0.3, -0.2])
    second, first = level.normal_equations(level.compare(level.frame.grid + shift.view(1, 2, 1, 1)))
    xx, xy, yy = second.sum((0, 2, 3))
    step = torch.linalg.solve(torch.stack((xx, xy, xy, yy)).view(2, 2), first.sum((0, 2, 3)))
    # The shift itself lowers the correlation, which is taken for noise, so the step is a little long.
    assert torch.allclose(step, shift, rtol=0.25, atol=0)
