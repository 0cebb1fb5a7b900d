"""The classical registrar: invariances of its descriptor, known affine maps, and no help from the black band."""

import math

import pytest
import torch

from models.layers import blur, gaussian_kernel
from models.registration.descriptors import Frame, mind
from models.registration.structural import StructuralRegistrar, penalty, prior_residuals
from models.warping import valid_mask, warp

SIZE = (96, 128)


def texture(seed: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """A smooth random texture ``(1, 1, H, W)`` in [0.1, 0.9], with structure from two to twenty pixels."""
    noise = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    image = sum(sigma * blur(noise - 0.5, gaussian_kernel(49, sigma), "replicate") for sigma in (1.5, 3.0, 8.0))
    return 0.1 + 0.8 * (image - image.min()) / (image.max() - image.min())


def affine_flow(degrees: float, x: float, y: float, skew: float = 0.0) -> torch.Tensor:
    """The flow ``(1, 2, H, W)`` of a rotation with a skew about the centre, then a shift by ``(x, y)`` px."""
    angle = torch.tensor(degrees).deg2rad()
    frame = Frame(SIZE, SIZE, angle)
    shift = torch.tensor([x, y]) / frame.scale.flatten()
    affine = torch.stack((angle.cos(), skew - angle.sin(), shift[0], angle.sin(), angle.cos(), shift[1]))
    return frame.pixels(affine.view(1, 2, 3)) - frame.grid


def invert_affine(flow: torch.Tensor) -> torch.Tensor:
    """The inverse of a flow that is an affine map, exact also where it leaves the frame."""
    frame = Frame(SIZE, SIZE, flow)
    ones = torch.ones(SIZE[0] * SIZE[1], 1)
    moved = ((flow + frame.points * frame.scale) / frame.scale).flatten(2)[0].T
    back = torch.linalg.lstsq(torch.cat((moved, ones), 1), frame.points.flatten(2)[0].T).solution.T
    return frame.pixels(back[None]) - frame.grid


def error(flow: torch.Tensor, true: torch.Tensor) -> float:
    """Mean end-point error in pixels where the true flow stays inside."""
    return float((flow - true).norm(dim=1)[valid_mask(true)[:, 0] > 0].mean())


def test_mind_is_blind_to_gain_offset_and_inversion():
    image = texture(0)
    reference = mind(image)
    assert reference.shape == (1, 8, *SIZE)
    for other in (1 - image, 0.3 * image + 0.5):
        assert (mind(other) - reference).abs().mean() < 0.005
    assert (mind(texture(1)) - reference).abs().mean() > 0.1  # and it tells images apart


def test_mind_of_a_flat_image_is_flat():
    assert torch.equal(mind(torch.full((1, 1, 40, 40), 0.4)), torch.ones(1, 8, 40, 40))


@pytest.mark.parametrize("degrees, x, y, skew", [(0, 5, -3, 0), (8, -2, 3, 0.06), (-11, 9, 6, -0.04)])
def test_recovers_an_affine_map_across_inverted_contrast(degrees, x, y, skew):
    vi = texture(2)
    deformation = affine_flow(degrees, x, y, skew)
    ir = warp(1 - 0.6 * vi, deformation)
    flow = StructuralRegistrar().register(ir, vi).flow_ir2vi
    true = invert_affine(deformation)
    assert error(torch.zeros_like(true), true) > 4
    assert error(flow, true) < 0.1


def test_the_prior_favours_rigid_motions():
    def cost(*numbers):
        return float(penalty(torch.tensor([numbers], dtype=torch.double)))

    cosine, sine = math.cos(0.12), math.sin(0.12)
    assert cost(1, 0, 0, 0, 1, 0) == 0
    rotation, shift = cost(cosine, -sine, 0, sine, cosine, 0), cost(1, 0, 0.12, 0, 1, 0)
    assert rotation == pytest.approx(sine**2) and shift == pytest.approx(0.12**2)  # no part of them is scale or shear
    # A change of scale, a stretch and a shear of one size cost alike, and far more than a rigid motion of that size.
    scale, stretch, shear = cost(1.02, 0, 0, 0, 1.02, 0), cost(1.02, 0, 0, 0, 0.98, 0), cost(1, 0.02, 0, 0.02, 1, 0)
    assert stretch == pytest.approx(scale) and shear == pytest.approx(scale, rel=1e-3)
    assert scale > 20 * cost(1, 0, 0.02, 0, 1, 0)
    assert cost(1.04, 0, 0, 0, 1.04, 0) == pytest.approx(4 * scale)


def test_jacobian_of_the_prior():
    affine = torch.eye(2, 3, dtype=torch.double) + 0.1 * torch.rand(3, 2, 3, dtype=torch.double)
    whole = torch.autograd.functional.jacobian(lambda maps: prior_residuals(maps)[0], affine).flatten(3)
    expected = torch.stack([whole[i, :, i] for i in range(3)])
    assert torch.allclose(prior_residuals(affine)[1], expected)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_where_images_say_nothing_the_map_stays_rigid(seed):
    flow = StructuralRegistrar().register(texture(10 + seed), texture(20 + seed)).flow_ir2vi[0]
    along_x, along_y = flow[:, 0, 1] - flow[:, 0, 0], flow[:, 1, 0] - flow[:, 0, 0]
    a, b, c, d = along_x[0] + 1, along_y[0], along_x[1], along_y[1] + 1
    assert torch.hypot((a + d) / 2, (c - b) / 2) == pytest.approx(1, abs=0.01)
    assert abs(a - d) / 2 < 0.01 and abs(b + c) / 2 < 0.01


def test_identity_stays_identity():
    vi = texture(3)
    flow = StructuralRegistrar().register((1 - vi).square(), vi).flow_ir2vi
    assert flow.norm(dim=1).max() < 0.02


def test_interface_for_a_batch_of_mixed_channels():
    ir = torch.cat((warp(1 - texture(4), affine_flow(5, 2, 1)), texture(5)))
    vi = torch.cat((texture(4), texture(5))).expand(-1, 3, -1, -1)
    registrar = StructuralRegistrar()
    result = registrar.register(ir, vi)
    assert result.agreement.shape == (2,) and 0.1 < result.agreement.min() < result.agreement.max() <= 1
    assert result.flow_ir2vi.shape == (2, 2, *SIZE)
    assert torch.equal(result.registered, warp(ir, result.flow_ir2vi))
    assert torch.equal(result.valid, valid_mask(result.flow_ir2vi))
    alone = registrar.register(ir[1:], vi[1:])
    assert torch.equal(alone.flow_ir2vi, result.flow_ir2vi[1:])
    with pytest.raises(ValueError, match="differ"):
        registrar.register(ir, vi[..., :-1])


def test_a_scale_of_an_odd_size_means_the_same_map():
    """A flow must not depend on how the image was shrunk: here by different factors along x and y."""
    frame, shrunk = Frame((97, 131), (97, 131), torch.zeros(1)), Frame((24, 33), (97, 131), torch.zeros(1))
    affine = torch.tensor([[[1.02, -0.1, 0.03], [0.12, 0.97, -0.05]]])
    whole, part = frame.pixels(affine), shrunk.pixels(affine)
    ratio = torch.tensor([131 / 33, 97 / 24]).view(1, 2, 1, 1)
    at = ((shrunk.grid + 0.5) * ratio - 0.5).flatten(2)  # the shrunk image's pixels in the whole image
    origin = whole[:, :, :1, :1].flatten(2)
    slope_x, slope_y = whole[:, :, 0, 1:2] - origin, whole[:, :, 1, 0:1] - origin
    expected = origin + slope_x * at[:, :1] + slope_y * at[:, 1:]
    assert torch.allclose((part.flatten(2) + 0.5) * ratio.flatten(2) - 0.5, expected, atol=1e-3)


def test_the_black_band_alone_moves_nothing():
    """An IR image without content, deformed: its band tells the deformation, its content does not."""
    ir = warp(torch.full((1, 1, *SIZE), 0.4), affine_flow(7, 5, -4))
    ir = (ir * 255).round() / 255
    assert (ir == 0).float().mean() > 0.05
    flow = StructuralRegistrar().register(ir, texture(6)).flow_ir2vi
    assert flow.abs().max() < 1e-3


def test_the_black_band_does_not_outvote_content():
    """Aligned content under the band of a deformation stays aligned."""
    vi = texture(7)
    band = valid_mask(affine_flow(7, 5, -4))
    flow = StructuralRegistrar().register((1 - vi) * band, vi).flow_ir2vi
    assert flow.norm(dim=1).max() < 0.05
