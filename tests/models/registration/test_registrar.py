"""From two images of any sizes to a transform: known maps at several scales are found, wrong pairs are refused."""

import pytest
import torch
from kornia.geometry.linalg import transform_points

from models.layers import blur, gaussian_kernel
from models.registration.affine import HYPOTHESIS, SAME_FRAME, align, fit
from models.registration.decision import Evidence, weigh
from models.registration.descriptors import HALF, Picture, describe
from models.registration.registrar import Registrar
from models.registration.search import distinct, search
from models.registration.transform import points_matrix
from models.warping import pixel_grid, sample

VI = (192, 144)  # width, height


def scene(seed: int, size: tuple[int, int] = VI) -> torch.Tensor:
    """A random texture ``(1, 1, H, W)`` in [0.1, 0.9] with edges, and structure from two to twenty pixels."""
    noise = torch.rand(1, 1, size[1], size[0], generator=torch.Generator().manual_seed(seed))
    image = sum(sigma * blur(noise - 0.5, gaussian_kernel(49, sigma), "replicate") for sigma in (1.5, 3.0, 8.0))
    image = (image / image.std() * 2).sin()
    return 0.1 + 0.8 * (image - image.min()) / (image.max() - image.min())


def camera(image, view: float, degrees: float, size: tuple[int, int], shift=(0.0, 0.0), tilt: float = 0):
    """What an IR camera of ``size`` (width, height) sees of ``image``, contrast inverted, and the true ``vi_to_ir``.

    Its field of view is ``view`` of the image's width, turned by so many degrees about the image's centre.
    """
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    scale = view * image.shape[-1] / size[0]
    linear = scale * torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[:2, :2] = linear
    centre, middle = ((torch.tensor(s, dtype=torch.float64) - 1) / 2 for s in (image.shape[:1:-1], size))
    matrix[:2, 2] = centre + torch.tensor(shift) - linear @ middle
    matrix[2, 0] = tilt
    positions = transform_points(matrix[None], pixel_grid(size[1], size[0], matrix).flatten(2).mT)
    ir = sample(image, positions.mT.reshape(1, 2, size[1], size[0]).float(), padding="border")
    return 1 - 0.7 * ir, torch.linalg.inv(matrix)


def error(transform, true: torch.Tensor) -> float:
    """Mean distance from the true map in IR pixels, over VI's pixels that IR shows."""
    grid = pixel_grid(VI[1], VI[0], true)[:, :, ::8, ::8].flatten(2)[0].T
    expected = transform_points(true[None], grid[None])[0]
    shown = ((expected >= 0) & (expected <= expected.new_tensor(transform.ir_size) - 1)).all(dim=1)
    return float((transform.to_ir(grid) - expected)[shown].norm(dim=1).mean())


@pytest.mark.parametrize(
    "view, degrees, size, shift",
    [(0.5, 0, (160, 128), (20.0, -10.0)), (0.7, 7, (96, 72), (-10.0, 5.0)), (0.95, -5, (128, 96), (0.0, 0.0))],
)
def test_a_camera_that_sees_less_is_found(view, degrees, size, shift):
    vi = scene(0)
    ir, true = camera(vi, view, degrees, size, shift)
    transform = Registrar(scale=(0.4, 1.1))(ir, vi)
    assert transform.accepted and (transform.vi_size, transform.ir_size) == (VI, size)
    assert error(transform, true) < 1


def test_a_camera_that_sees_more_and_is_tilted_is_found():
    wide = scene(1, (384, 288))
    ir, true = camera(wide, 1.0, 4.0, (256, 192), tilt=1e-4)
    vi = wide[..., 70 : 70 + VI[1], 100 : 100 + VI[0]]
    crop = torch.eye(3, dtype=torch.float64)
    crop[0, 2], crop[1, 2] = 100, 70
    transform = Registrar(search="wide", scale=(1.0, 2.2), rotation=6)(ir, vi)
    assert transform.accepted and error(transform, true @ crop) < 1


def test_a_turned_camera_is_found_where_it_is_looked_for():
    vi = scene(2)
    ir, true = camera(vi, 0.6, 150.0, (96, 72))
    assert error(Registrar(scale=(0.6, 0.6), rotation=180)(ir, vi), true) < 1
    assert not Registrar(scale=(0.6, 0.6))(ir, vi).accepted


def test_the_search_ranks_the_true_map_first_and_gives_distinct_ones():
    vi = scene(3)
    ir, true = camera(vi, 0.6, 3.0, (128, 96), (12.0, 8.0))
    found = search(Picture.of(ir), Picture.of(vi), scale=(0.5, 0.8), rotation=6.0, count=4)
    assert found.maps.shape == (4, 3, 3) and (found.values.diff() <= 0).all()
    true = points_matrix((128, 96)) @ true @ torch.linalg.inv(points_matrix(VI))
    assert (found.maps[0] - true / true[2, 2]).abs().max() < 0.1
    assert (found.maps[1] - found.maps[0]).abs().max() > 0.05


def test_maps_count_as_distinct_by_where_they_take_the_corners():
    maps = torch.eye(3).repeat(4, 1, 1)
    maps[1, 0, 2], maps[2, 0, 2], maps[3, 0, 0] = 0.02, 0.2, 1.3
    assert distinct(maps, Picture.of(scene(3)).frame.corners(), 4) == [0, 2, 3]


def test_a_picture_is_shrunk_and_described_once():
    picture = Picture.of(scene(8))
    small = picture.shrink(96)
    assert small.size == (72, 96) and small.full == (144, 192) and picture.shrink(96.2) is small
    assert small.describe(HALF)[0] is small.describe(HALF)[0]
    for found, expected in zip(small.describe(), describe(small.gray, small.content)):
        assert torch.equal(found, expected)


def test_descriptors_count_only_where_all_around_is_content():
    content = torch.ones(1, 1, 30, 40)
    content[0, 0, 14, 20] = 0
    mask = describe(torch.rand(1, 1, 30, 40), content)[1][0, 0]
    expected = torch.zeros(30, 40)
    expected[5:25, 5:35] = 1
    expected[9:20, 15:26] = 0
    assert torch.equal(mask, expected)


def test_a_fit_from_hypotheses_is_relative_to_them():
    """Two percent of scale are found from a hypothesis of scale two, which the prior on frames alike forbids less."""
    vi = scene(4)
    ir, true = camera(vi, 0.5, 0.0, (128, 96))
    true = points_matrix((128, 96)) @ true @ torch.linalg.inv(points_matrix(VI))
    start = true.float() @ torch.diag(torch.tensor([1.02, 1.02, 1.0]))
    level = align(Picture.of(ir), Picture.of(vi), start[None], 160, margin=0.15)
    maps, value = fit(level, torch.eye(3)[None], HYPOTHESIS)
    assert value > 0.5
    assert maps[0].flatten().tolist() == pytest.approx([1 / 1.02, 0, 0, 0, 1 / 1.02, 0, 0, 0, 1], abs=4e-3)


@pytest.mark.parametrize("prior", [SAME_FRAME, HYPOTHESIS])
def test_priors(prior):
    assert prior.penalty(torch.eye(3)[None]) == 0
    maps = torch.eye(3, dtype=torch.double) + 0.1 * torch.rand(2, 3, 3, dtype=torch.double)
    whole = torch.autograd.functional.jacobian(lambda m: prior.residuals(m)[0], maps).flatten(3)[..., :8]
    assert torch.allclose(prior.residuals(maps)[1], torch.stack([whole[i, :, i] for i in range(2)]))


def test_wrong_pairs_and_flat_frames_are_refused():
    for seed in range(2):
        transform = Registrar(scale=(0.7, 1.4), rotation=6)(scene(20 + seed, (96, 72)), scene(30 + seed))
        assert not transform.accepted and transform.displacement is None
    flat = Registrar()(torch.full((1, 1, 72, 96), 0.5), scene(5))
    assert not flat.accepted and flat.confidence == 0 and flat.vi_to_ir.isfinite().all()


def test_frames_alike_need_no_wide_search():
    vi = scene(6)
    transform = Registrar()((1 - vi).square(), vi.expand(-1, 3, -1, -1))
    assert transform.accepted and transform.source == "narrow"
    assert (transform.map_vi2ir() - pixel_grid(*vi.shape[-2:], vi)[0]).norm(dim=0).max() < 0.1


def off_by(pixels):
    """A pair, its true map, and a network whose answer is off to the right by ``pixels``."""
    vi = scene(7)
    ir, true = camera(vi, 1.0, 5.0, VI, (30.0, 10.0))
    grid = pixel_grid(VI[1], VI[0], vi)

    def network(ir, vi):
        points = transform_points(true[None], grid.flatten(2).mT.double())
        return points.mT.reshape(grid.shape) - grid + torch.tensor([pixels, 0.0]).view(1, 2, 1, 1)

    return ir, vi, true, network


def test_a_network_gives_a_start():
    ir, vi, true, network = off_by(2.0)
    transform = Registrar(search="narrow", network=network)(ir, vi)
    assert transform.source == "network" and error(transform, true) < 0.5


def test_the_answer_is_the_mean_where_the_network_agrees():
    ir, vi, true, network = off_by(0.8)
    alone = Registrar(search="narrow", network=off_by(2.0)[3], elastic=False)(ir, vi)
    mean = Registrar(search="narrow", network=network, elastic=False)(ir, vi)
    assert mean.source == "both"
    shift = (mean.map_vi2ir() - alone.map_vi2ir()).mean(dim=(1, 2))
    assert shift[0] == pytest.approx(0.4, abs=0.1) and shift[1] == pytest.approx(0, abs=0.1)


def test_a_network_that_is_wrong_loses():
    vi = scene(6)
    transform = Registrar(network=lambda ir, vi: torch.full((1, 2, *vi.shape[-2:]), 12.0))((1 - vi).square(), vi)
    assert transform.accepted and transform.source == "narrow"
    assert (transform.map_vi2ir() - pixel_grid(*vi.shape[-2:], vi)[0]).norm(dim=0).max() < 0.1


@pytest.mark.parametrize("ir_size, vi_size", [((96, 72), VI), ((640, 48), (640, 48))])
def test_a_network_is_not_asked_about_other_sizes_or_narrow_strips(ir_size, vi_size):
    def network(ir, vi):
        raise AssertionError

    Registrar(search="narrow", network=network)(scene(9, ir_size), scene(9, vi_size))


def test_evidence_for_the_right_map_and_against_another():
    vi = scene(8)
    ir, true = camera(vi, 0.8, 2.0, (160, 120))
    true = (points_matrix((160, 120)) @ true @ torch.linalg.inv(points_matrix(VI))).float()
    off = true.clone()
    off[0, 2] += 0.15
    pictures = Picture.of(ir), Picture.of(vi)
    right, wrong = weigh(*pictures, true), weigh(*pictures, off)
    assert right.support > 0.8 > 0.5 > wrong.support and right.lead > 1 > wrong.lead
    assert right.confidence() > 0.9 > 0.1 > wrong.confidence()
    assert Evidence(float("-inf"), 1.0, 1.0, 1.0).confidence() == 0


def test_arguments():
    with pytest.raises(ValueError, match="search"):
        Registrar(search="deep")
    with pytest.raises(ValueError, match="range above 0"):
        Registrar(scale=(0.0, 1.0))


def test_a_refused_answer_stays_near():
    ir, vi = scene(20), scene(21)
    near = Registrar()(ir, vi)
    assert not near.accepted and near.displacement is None
    assert (near.map_vi2ir() - pixel_grid(VI[1], VI[0], vi)[0]).norm(dim=0).mean() < 0.2 * VI[0]
