"""Points marked by hand give a transform, which starts the fit; points that determine none are refused."""

import pytest
import torch
from kornia.geometry.linalg import transform_points

from datasets.toy import toy_scene
from models import Pipeline
from models.registration.averaging import anchors, distance
from models.registration.points import transform_of_points
from models.registration.transform import Transform
from models.warping import pixel_grid, sample

VI, IR = (192, 144), (128, 96)  # width, height
MATRIX = torch.tensor([[0.4, 0.3, -8.0], [-0.3, 0.4, 50.0], [0, 0, 1]], dtype=torch.float64)
TRUE = Transform(MATRIX, VI, IR)
MARKED = torch.tensor([[60.0, 40.0], [140.0, 35.0], [150.0, 110.0], [55.0, 100.0]])


def test_exact_points_give_the_exact_affine_map_and_errors_are_averaged():
    partners = TRUE.to_ir(MARKED)
    found = transform_of_points(MARKED, partners, VI, IR)
    assert torch.allclose(found.vi_to_ir, MATRIX, atol=1e-9)
    assert (found.vi_size, found.ir_size, found.source) == (VI, IR, "points")
    partners[0] += 2
    assert 0.1 < distance(transform_of_points(MARKED, partners, VI, IR), TRUE, anchors(TRUE)) < 4


def test_a_turned_camera_that_the_search_does_not_reach_is_found_from_marked_points():
    scene = toy_scene(3, VI[1], VI[0])
    positions = transform_points(torch.linalg.inv(MATRIX)[None], pixel_grid(IR[1], IR[0], MATRIX).flatten(2).mT)
    ir = sample(scene.ir[None], positions.mT.reshape(1, 2, IR[1], IR[0]).float(), "border")
    alone = Pipeline(None, "structural", search="wide", scale=(0.9, 1.1)).register(ir, scene.vi[None])
    assert not alone.accepted[0]
    clicks = TRUE.to_ir(MARKED) + torch.tensor([[1.0, -1], [-1, 0.5], [0.5, 1], [-1, -1]])
    start = transform_of_points(MARKED, clicks, VI, IR)
    found = Pipeline(None, "none", rig=start).register(ir, scene.vi[None])
    assert found.accepted[0]
    assert distance(found.transforms[0], TRUE, anchors(TRUE)) < 0.6 < distance(start, TRUE, anchors(TRUE))


def test_points_that_determine_no_map_are_refused():
    partners = TRUE.to_ir(MARKED)
    with pytest.raises(ValueError, match="3 points in VI and 4 in IR"):
        transform_of_points(MARKED[:3], partners, VI, IR)
    with pytest.raises(ValueError, match="the points in VI lie on a line"):
        transform_of_points(torch.tensor([[10.0, 10], [50, 50], [80, 80], [120, 120]]), partners, VI, IR)
    with pytest.raises(ValueError, match="same order"):
        transform_of_points(MARKED, partners.flip(0), VI, IR)
