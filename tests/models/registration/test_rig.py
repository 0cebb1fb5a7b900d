"""Rigs: means of transforms that outliers do not move, joint refinement, and registration near a known map."""

from dataclasses import replace

import pytest
import torch
from kornia.geometry.linalg import transform_points

from datasets.toy import toy_scene
from models.layers import blur, gaussian_kernel
from models.registration.averaging import anchors, distance, robust_mean, weighted_mean
from models.registration.rig import Rig, RigRegistrar, average, refine
from models.registration.transform import Transform
from models.warping import pixel_grid, sample

VI, IR = (192, 144), (128, 96)  # width, height
MATRIX = torch.tensor([[0.62, 0.03, 6.0], [-0.02, 0.64, 3.0], [1e-5, 2e-5, 1.0]], dtype=torch.float64)
TRUE = Transform(MATRIX, VI, IR)


def shifted(x: float, y: float, **values) -> Transform:
    """The true transform, off by (x, y) px of VI."""
    move = torch.eye(3, dtype=torch.float64)
    move[:2, 2] = torch.tensor([x, y])
    return Transform(MATRIX @ move, VI, IR, **values)


def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A scene as both cameras of the rig see it."""
    scene = toy_scene(seed, VI[1], VI[0])
    ir = blur(scene.ir[None], gaussian_kernel(5, 0.8), "replicate")
    points = transform_points(torch.linalg.inv(MATRIX)[None], pixel_grid(IR[1], IR[0], MATRIX).flatten(2).mT)
    return sample(ir, points.mT.reshape(1, 2, IR[1], IR[0]).float(), "border"), scene.vi[None]


def test_a_distance_is_in_pixels_of_vi():
    assert distance(shifted(3, -4), TRUE, anchors(TRUE)) == pytest.approx(5, abs=1e-6)
    assert distance(TRUE, TRUE, anchors(TRUE)) == pytest.approx(0, abs=1e-6)


def test_anchors_lie_where_ir_shows_something():
    small = Transform(torch.diag(torch.tensor([0.6, 0.6, 1.0], dtype=torch.float64)), VI, (40, 30))
    positions = small.to_ir(anchors(small))
    assert len(positions) >= 9 and (positions >= 0).all() and (positions <= torch.tensor([39, 29])).all()


def test_a_mean_lies_between_and_keeps_a_displacement():
    mean = weighted_mean([shifted(0, 0), shifted(4, 0)], torch.tensor([1.0, 3.0]), anchors(TRUE))
    assert distance(mean, shifted(3, 0), anchors(TRUE)) < 0.02 and mean.displacement is None
    bent = replace(TRUE, displacement=torch.full((2, 3, 4), 2.0))
    mean = weighted_mean([TRUE, bent], torch.ones(2), anchors(TRUE))
    assert distance(mean, shifted(1, 1), anchors(TRUE)) < 0.02


def test_outliers_do_not_move_a_robust_mean():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(9, 2, generator=generator).tolist()
    transforms = [shifted(x, y) for x, y in noise] + [shifted(60, 0), shifted(50, 30), shifted(-70, 10)]
    plain = weighted_mean(transforms, torch.ones(12), anchors(TRUE))
    mean, weights = robust_mean(transforms, torch.ones(12, dtype=torch.float64))
    assert distance(plain, TRUE, anchors(TRUE)) > 5 and distance(mean, TRUE, anchors(TRUE)) < 1
    assert weights[9:].max() < 0.05 and weights[:9].median() > 0.5


def test_a_rig_tells_how_far_its_pairs_are_and_how_sure_it_is():
    rig = average([shifted(0.2, 0), shifted(-0.2, 0), shifted(0, 0.2), shifted(40, 0)])
    assert rig.agree == [True, True, True, False]
    assert rig.transform.confidence == pytest.approx(4 / 6) and rig.transform.accepted
    assert rig.transform.source == "rig of 4 pairs"
    assert rig.distances[3] == pytest.approx(40, abs=1)


def test_joint_refinement_finds_what_single_pairs_miss(tmp_path):
    start = Rig(shifted(1.5, -1.2), [0.0] * 3, [1.0] * 3)
    rig = refine(start, [shifted(1.5, -1.2)] * 3, [pair(seed) for seed in range(3)], [1.0, 0.5, 1.0])
    points = anchors(TRUE)
    assert distance(rig.transform, TRUE, points) < 0.4 < distance(start.transform, TRUE, points)
    assert rig.distances[0] == pytest.approx(distance(start.transform, rig.transform, points), rel=0.1)
    rig.transform.save(tmp_path / "rig.json")
    assert distance(Transform.load(tmp_path / "rig.json"), rig.transform, points) < 1e-3


def test_a_pair_is_registered_near_its_rig():
    rig = shifted(2.0, 1.5, confidence=0.9)
    ir, vi = pair(5)
    found = RigRegistrar(rig)(ir, vi)
    assert found.accepted and distance(found, TRUE, anchors(TRUE)) < 0.6
    assert (found.vi_size, found.ir_size, found.source) == (VI, IR, "rig, refined")


def test_a_rig_lends_its_confidence():
    ir, vi = pair(6)
    hidden = vi + 0.25 * torch.randn(vi.shape, generator=torch.Generator().manual_seed(0))
    sure, unsure = (RigRegistrar(replace(TRUE, confidence=c))(ir, hidden).confidence for c in (0.95, 0.5))
    assert 0 < unsure < sure < 1


def test_an_unrelated_pair_is_refused_and_left_on_the_rig():
    rig = replace(TRUE, confidence=0.9)
    found = RigRegistrar(rig)(pair(7)[0], torch.rand(1, 3, VI[1], VI[0], generator=torch.Generator().manual_seed(1)))
    assert not found.accepted and distance(found, rig, anchors(rig)) < 1e-6


def test_images_of_other_sizes_are_named():
    with pytest.raises(ValueError, match="VI is 96x64, but the transform is for 192x144"):
        RigRegistrar(TRUE)(pair(0)[0], torch.zeros(1, 3, 64, 96))
