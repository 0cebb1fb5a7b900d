"""Random deformations: their inverse is exact, they come from the seed, and they have the published reach."""

import math

import pytest
import torch

from datasets.deformation import TEST, Deformation, Ranges, apply_affine, random_deformation
from models.warping import pixel_grid, valid_mask, warp

WIDE = Ranges()


def draw(seed=0, batch=4, size=(60, 80), ranges=WIDE):
    return random_deformation(batch, size, ranges, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("ranges", [Ranges(), TEST, Ranges(shear=0.05)])
def test_the_inverse_is_exact(ranges):
    deformation = draw(ranges=ranges, size=(240, 320))
    points = pixel_grid(240, 320, like=torch.zeros(1)).expand(4, -1, -1, -1)
    q = points + deformation.inverse_displacement()
    assert (q + deformation.displacement(q) - points).abs().max() < 1e-2
    # ... and the other way round.
    p = points + deformation.displacement()
    assert (p + deformation.inverse_displacement(p) - points).abs().max() < 1e-2


def test_a_crop_sees_the_field_of_the_whole_image():
    deformation = draw()
    window = pixel_grid(20, 30, like=torch.zeros(1)) + torch.tensor([11.0, 7.0]).view(1, 2, 1, 1)
    whole = deformation.displacement()
    part = deformation.displacement(window.expand(4, -1, -1, -1))
    assert torch.allclose(part, whole[:, :, 7:27, 11:41], atol=1e-4)


def test_without_elasticity_it_is_the_affine_map():
    angle = math.radians(90)
    matrix = torch.tensor([[[math.cos(angle), -math.sin(angle), 5.0], [math.sin(angle), math.cos(angle), 1.0]]])
    deformation = Deformation(matrix, torch.zeros(1, 2, 40, 40), (4, 4))
    moved = deformation.displacement(torch.tensor([2.0, 3.0]).view(1, 2, 1, 1))
    # A quarter turn takes (2, 3) to (-3, 2); the shift adds (5, 1): (2, 3), so nothing moved.
    assert torch.allclose(moved, torch.zeros(1), atol=1e-5)
    assert torch.allclose(
        apply_affine(matrix, torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)).flatten(), torch.tensor([4.0, 1.0]), atol=1e-5
    )


def test_the_seed_decides():
    a, b, c = draw(1).displacement(), draw(1).displacement(), draw(2).displacement()
    assert torch.equal(a, b) and not torch.allclose(a, c)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    draw(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_reach():
    still = draw(batch=64, ranges=Ranges(rotation=0, translation=0, elastic=1.5))
    assert still.elastic.std().item() == pytest.approx(1.5, rel=0.1)
    turned = draw(batch=256, size=(400, 500), ranges=Ranges(rotation=10, translation=0.05, elastic=0)).matrix
    angles = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert 9 < angles.abs().max() <= 10
    centre = torch.tensor([249.5, 199.5])
    shift = turned[:, :, :2] @ centre + turned[:, :, 2] - centre
    assert 23 < shift.abs().max() <= 25.01
    larger = draw(batch=256, size=(400, 1000), ranges=Ranges(rotation=10, translation=0, elastic=0)).matrix
    assert 18 < torch.rad2deg(torch.atan2(larger[:, 1, 0], larger[:, 0, 0])).abs().max() <= 20


def test_mean_displacement_of_the_published_test_ranges():
    # The authors' test sets: 18.3 px (MSRS, 480 x 640) and 16.2 px (RoadScene, about 290 x 530).
    for size, mean in (((480, 640), 18.3), ((290, 530), 16.2)):
        found = draw(batch=48, size=size, ranges=TEST).displacement().norm(dim=1).mean()
        assert found == pytest.approx(mean, rel=0.25)


def test_the_inverse_undoes_the_warp_of_an_image():
    x, y = pixel_grid(120, 160, like=torch.zeros(1)).unbind(1)
    image = (0.5 + 0.25 * torch.sin(x / 9) + 0.25 * torch.cos(y / 7))[None]
    deformation = draw(batch=1, size=(120, 160), ranges=TEST)
    phi = deformation.inverse_displacement()
    restored = warp(warp(image, deformation.displacement()), phi)
    inside = (valid_mask(phi) * warp(valid_mask(deformation.displacement()), phi)) > 0.999
    assert inside.float().mean() > 0.5
    assert (restored - image)[inside].abs().max() < 0.02
