"""Random deformations: their inverse is exact, the seed determines them, and they have the published ranges."""

import math

import pytest
import torch

from datasets.deformation import (
    REGISTERED,
    TEST,
    Deformation,
    Ranges,
    apply_affine,
    apply_linear,
    random_deformation,
)
from models.warping import pixel_grid, valid_mask, warp

WIDE = Ranges()


def draw(seed=0, batch=4, size=(60, 80), ranges=WIDE, **options):
    return random_deformation(batch, size, ranges, torch.Generator().manual_seed(seed), **options)


def angles(deformation):
    return torch.rad2deg(torch.atan2(deformation.matrix[:, 1, 0], deformation.matrix[:, 0, 0]))


def shifts(deformation, sizes):
    """Where the centres of images of ``sizes`` (height, width), one or each its own, are taken, relative to them."""
    centres = (torch.tensor(sizes).expand(len(deformation.matrix), 2).flip(1) - 1) / 2
    return apply_affine(deformation.matrix, centres[:, :, None, None])[..., 0, 0] - centres


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
    turned = draw(batch=128, size=(400, 500), ranges=Ranges(rotation=10, translation=0.05, elastic=0))
    assert 9 < angles(turned).abs().max() <= 10
    assert 23 < shifts(turned, (400, 500)).abs().max() <= 25.01
    larger = draw(batch=64, size=(400, 1000), ranges=Ranges(rotation=10, translation=0, elastic=0))
    assert 18 < angles(larger).abs().max() <= 20
    sheared = draw(batch=64, ranges=Ranges(rotation=0, translation=0, shear=0.05, elastic=0)).matrix[:, :, :2]
    assert 0.045 < (sheared - torch.eye(2)).abs().max() <= 0.05


def test_linear_maps_by_hand():
    points = torch.tensor([[1.0, 2.0], [0.0, -3.0]]).view(2, 2, 1, 1)
    linear = torch.tensor([[[1.0, 10.0], [0.0, -1.0]], [[5.0, 1.0], [7.0, 2.0]]])
    assert apply_linear(linear, points).flatten().tolist() == [21, -2, -3, -6]
    moved = apply_affine(torch.cat((linear, torch.tensor([[[100.0], [200.0]], [[300.0], [400.0]]])), dim=2), points)
    assert moved.flatten().tolist() == [121, 198, 297, 394]


def test_images_of_one_size_may_be_given_one_by_one():
    one, each = draw(), draw(sizes=torch.tensor([[60.0, 80.0]] * 4))
    assert torch.equal(one.matrix, each.matrix) and torch.equal(one.elastic, each.elastic)


def test_every_image_is_deformed_by_its_own_size():
    sizes = torch.tensor([[200.0, 125.0], [250.0, 500.0]]).repeat_interleave(100, dim=0)
    ranges = Ranges(rotation=10, translation=0.05, elastic=0)
    mixed = draw(batch=200, size=(250, 500), sizes=sizes, ranges=ranges)
    for half, side in ((slice(100), 200), (slice(100, None), 500)):
        reach = 10 * side / 500
        assert 0.92 * reach < angles(mixed)[half].abs().max() <= reach + 1e-3
        shift = shifts(mixed, sizes.tolist())[half].abs()
        assert (shift.amax(dim=0) > 0.046 * side).all() and shift.max() < 0.05 * side + 0.01
    # The elastic field is of one kind over all of them, however small, and its inverse exact.
    each = torch.tensor([[60.0, 80.0], [200.0, 40.0], [60.0, 80.0], [200.0, 300.0]])
    mixed = draw(size=(200, 300), sizes=each, ranges=WIDE)
    points = mixed.frame()
    assert points.shape == (4, 2, 200, 300)
    q = points + mixed.inverse_displacement()
    assert (q + mixed.displacement(q) - points).abs().max() < 1e-2
    still = draw(batch=64, size=(250, 500), sizes=sizes[68:132], ranges=Ranges(0, 0, 0, 2.0))
    assert still.elastic.std() == pytest.approx(2, rel=0.1)


def test_the_affine_part_can_be_scaled_sample_by_sample():
    ranges = Ranges(rotation=10, translation=0.05, shear=0.0, elastic=1.6)
    whole, part = draw(ranges=ranges), draw(ranges=ranges, affine=torch.tensor([1.0, 0.5, 0.1, 0.0]))
    for measure in (angles(whole), shifts(whole, (60, 80))[:, 0], shifts(whole, (60, 80))[:, 1]):
        assert (measure.abs() > 0).all()
    scale = torch.tensor([1.0, 0.5, 0.1, 0.0])
    assert torch.allclose(angles(part), scale * angles(whole), atol=1e-4)
    assert torch.allclose(shifts(part, (60, 80)), scale[:, None] * shifts(whole, (60, 80)), atol=1e-4)
    assert torch.equal(part.elastic, whole.elastic)
    sheared = [draw(ranges=Ranges(0, 0, 0.05, 0), affine=affine).matrix[:, :, :2] for affine in (None, scale)]
    eye = torch.eye(2)
    assert torch.allclose(sheared[1] - eye, scale.view(4, 1, 1) * (sheared[0] - eye), atol=1e-6)


def test_wide_samples_have_wider_ranges_and_scales():
    wide = torch.tensor([True, False] * 100)
    drawn = draw(batch=200, size=(480, 640), ranges=TEST, wide=wide)
    linear = drawn.matrix[:, :, :2]
    scale = torch.linalg.det(linear).sqrt()
    assert (scale[~wide] - 1).abs().max() < 1e-5
    assert 0.8 < scale[wide].min() < 0.9 and 1.1 < scale[wide].max() < 1.25
    assert 7 < angles(drawn)[~wide].abs().max() < 9.1 and 13 < angles(drawn)[wide].abs().max() < 17
    centres = shifts(drawn, (480, 640)).abs()
    assert 14 < centres[~wide].max() < 16.1 and 58 < centres[wide].max() < 64.1


@pytest.mark.gpu
def test_a_gpu_draws_fields_without_waiting_for_it(no_waiting):
    generator = torch.Generator("cuda").manual_seed(0)
    sizes = torch.tensor([[60.0, 80.0]] * 4).cuda()
    with no_waiting:
        deformation = random_deformation(4, (60, 80), TEST, generator, sizes=sizes)
        points = deformation.frame() + deformation.inverse_displacement()
        back = points + deformation.displacement(points)
    assert back.device.type == "cuda" and (back - deformation.frame()).abs().max() < 0.01


def test_mean_displacement_of_the_published_test_ranges():
    # The authors' test sets: 18.3 px (MSRS, 480 x 640) and 16.2 px (RoadScene, about 290 x 530).
    for size, mean in (((480, 640), 18.3), ((290, 530), 16.2)):
        every_eighth = pixel_grid(*size, like=torch.zeros(1))[..., ::8, ::8].expand(32, -1, -1, -1)
        found = draw(batch=32, size=size, ranges=TEST).displacement(every_eighth).norm(dim=1).mean()
        assert found == pytest.approx(mean, rel=0.25)


def test_mean_displacement_that_a_registration_leaves():
    every_eighth = pixel_grid(480, 640, like=torch.zeros(1))[..., ::8, ::8].expand(32, -1, -1, -1)
    found = draw(batch=32, size=(480, 640), ranges=REGISTERED).displacement(every_eighth).norm(dim=1).mean()
    assert found == pytest.approx(2, abs=0.3)


def test_the_inverse_undoes_the_warp_of_an_image():
    x, y = pixel_grid(120, 160, like=torch.zeros(1)).unbind(1)
    image = (0.5 + 0.25 * torch.sin(x / 9) + 0.25 * torch.cos(y / 7))[None]
    deformation = draw(batch=1, size=(120, 160), ranges=TEST)
    phi = deformation.inverse_displacement()
    restored = warp(warp(image, deformation.displacement()), phi)
    inside = (valid_mask(phi) * warp(valid_mask(deformation.displacement()), phi)) > 0.999
    assert inside.float().mean() > 0.5
    assert (restored - image)[inside].abs().max() < 0.02
