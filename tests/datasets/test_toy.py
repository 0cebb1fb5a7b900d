"""The toy scenes: the properties that tests and dry runs rely on, and one geometry of both images and the labels."""

from itertools import combinations

import numpy as np
import pytest
import torch

from datasets.deformation import Ranges, random_deformation
from datasets.toy import CAR, PERSON, ToyScenes, toy_scene
from models import Pipeline
from models.warping import warp
from utils.classes import CLASSES
from utils.metrics.registration import registration_metrics

SIZE = (120, 160)
SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def scenes():
    return [toy_scene(seed, *SIZE) for seed in SEEDS]


def edges(image):
    """Gradient magnitude (H, W) of an image (C, H, W)."""
    dy, dx = np.gradient(image.mean(0).numpy())
    return np.hypot(dx, dy)


def outline(mask):
    """Pixels (H, W) on either side of the border of a mask."""
    border = np.zeros_like(mask)
    down, across = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= across
    border[:, :-1] |= across
    return border


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("size", [(32, 32), (37, 53), (97, 131), (64, 40)])
def test_shapes_types_and_ranges(size):
    scene = toy_scene(5, *size)
    assert scene.vi.shape == (3, *size) and scene.ir.shape == (1, *size) and scene.label.shape == size
    assert scene.vi.dtype == scene.ir.dtype == torch.float32 and scene.label.dtype == torch.int64
    for image in (scene.vi, scene.ir):
        assert image.isfinite().all() and image.min() >= 0 and image.max() <= 1 and image.std() > 0.05
    classes = set(scene.label.unique().tolist())
    assert {0, CAR, PERSON} <= classes <= set(range(len(CLASSES)))


def test_default_size_is_msrs():
    assert toy_scene(0).vi.shape == (3, 480, 640)


def test_a_seed_always_gives_the_same_scene(scenes):
    again = toy_scene(SEEDS[0], *SIZE)
    for part in ("vi", "ir", "label"):
        assert torch.equal(getattr(scenes[0], part), getattr(again, part))


def test_another_seed_gives_another_scene(scenes):
    for first, second in combinations(scenes, 2):
        assert (first.vi - second.vi).abs().mean() > 0.05
        assert (first.ir - second.ir).abs().mean() > 0.03
        people = [scene.label == PERSON for scene in (first, second)]
        assert (people[0] & people[1]).sum() < 0.5 * (people[0] | people[1]).sum()


@pytest.mark.parametrize("size", [(64, 96), (240, 320), (480, 640)])
def test_the_layout_does_not_depend_on_the_size(scenes, size):
    for seed, scene in zip(SEEDS, scenes):
        other = toy_scene(seed, *size)
        label = torch.nn.functional.interpolate(other.label[None, None].float(), SIZE, mode="nearest-exact")[0, 0]
        for name in (CAR, PERSON):
            common = ((label == name) & (scene.label == name)).sum()
            assert common > 0.8 * ((label == name) | (scene.label == name)).sum()
        for part in ("vi", "ir"):
            image = torch.nn.functional.interpolate(getattr(other, part)[None], SIZE, mode="bilinear", antialias=True)
            assert (image[0] - getattr(scene, part)).abs().mean() < 0.03


def test_global_random_state_is_untouched():
    np.random.seed(7)
    torch.manual_seed(7)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = toy_scene(3, 32, 32)
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert torch.equal(torch_state, torch.get_rng_state())
    np.random.seed(8)
    torch.manual_seed(8)
    assert torch.equal(first.vi, toy_scene(3, 32, 32).vi)


def test_cars_and_people_are_there(scenes):
    for scene in scenes:
        assert (scene.label == CAR).sum() > 50
        assert (scene.label == PERSON).sum() > 25
        assert (scene.label == 0).float().mean() > 0.5


def test_people_are_warm(scenes):
    for scene in scenes:
        people, background = (scene.ir[0][scene.label == label].mean() for label in (PERSON, 0))
        assert people > background + 0.2


def test_the_sky_is_cold_but_bright(scenes):
    for scene in scenes:
        assert scene.ir[:, :6].mean() < scene.ir[:, 100:].mean() - 0.1
        assert scene.vi[:, :6].mean() > scene.vi[:, 100:].mean()


@pytest.mark.parametrize("label", [CAR, PERSON])
def test_outlines_of_labels_lie_on_thermal_edges(scenes, label):
    def strength(*shift):
        """Mean thermal edge on the outlines moved by a shift (dy, dx)."""
        borders = [np.roll(outline((scene.label == label).numpy()), shift, (0, 1)) for scene in scenes]
        return np.mean([edges(scene.ir)[border].mean() for scene, border in zip(scenes, borders, strict=True)])

    moved = [strength(*shift) for shift in ((0, 4), (0, -4), (4, 0), (-4, 0), (3, 3), (-3, -3))]
    assert strength(0, 0) > 1.1 * max(moved)


def test_images_share_edges_but_not_contrast(scenes):
    for index, scene in enumerate(scenes):
        ir, vi = edges(scene.ir), edges(scene.vi)
        shared = correlation(ir, vi)
        moved = max(correlation(np.roll(ir, shift, (0, 1)), vi) for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)))
        foreign = max(correlation(edges(other.ir), vi) for other in scenes[:index] + scenes[index + 1 :])
        assert shared > moved + 0.05 and shared > foreign + 0.2
        assert correlation(scene.ir.numpy(), scene.vi.mean(0).numpy()) < 0.6


def test_a_known_deformation_is_found():
    scene = toy_scene(0, 192, 256)
    ranges = Ranges(rotation=3.0, translation=0.02, elastic=0.5)
    flow = random_deformation(1, (192, 256), ranges, torch.Generator().manual_seed(1)).displacement()
    found = Pipeline(None, "structural").register(warp(scene.ir[None], flow), scene.vi[None]).flow_ir2vi
    before, after = (registration_metrics(field, flow)["EPE"] for field in (torch.zeros_like(flow), found))
    assert before > 2 and after < 0.5


def test_the_set_is_deformed_by_its_flow_and_labelled():
    pairs = ToyScenes()
    assert pairs.names == ["toy_0", "toy_1", "toy_2"] and len(pairs) == 3 and pairs.has_flow and pairs.has_label
    assert pairs.subset(["toy_2"])[0].name == "toy_2"
    for seed, pair in enumerate(pairs[i] for i in range(3)):
        still = toy_scene(seed)
        assert pair.name == pairs.names[seed] and torch.equal(pair.label, still.label)
        assert torch.equal(pair.ir, still.ir) and torch.equal(pair.vi, still.vi)
        assert torch.allclose(pair.ir_warp, warp(pair.ir[None], pair.flow[None])[0])
        assert 2 < pair.flow.norm(dim=0).mean() < 40
