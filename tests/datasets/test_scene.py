"""The procedural street: what a sample promises, and that its images and its labels share one geometry."""

import numpy as np
import pytest
import torch

from datasets.scene import CAR, PERSON, render_scene

SIZE = (120, 160)
SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, *SIZE) for seed in SEEDS]


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
    scene = render_scene(5, *size)
    assert scene.keys() == {"vi", "ir", "label"}
    assert scene["vi"].shape == (3, *size) and scene["ir"].shape == (1, *size) and scene["label"].shape == size
    assert scene["vi"].dtype == scene["ir"].dtype == torch.float32 and scene["label"].dtype == torch.int64
    for name in ("vi", "ir"):
        assert scene[name].isfinite().all()
        assert scene[name].min() >= 0 and scene[name].max() <= 1
        assert scene[name].std() > 0.05
    assert set(scene["label"].unique().tolist()) <= set(range(9))


def test_default_size_is_msrs():
    assert render_scene(0)["vi"].shape == (3, 480, 640)


def test_a_seed_always_gives_the_same_scene(scenes):
    again = render_scene(SEEDS[0], *SIZE)
    for name, value in scenes[0].items():
        assert torch.equal(value, again[name])


def test_another_seed_gives_another_scene(scenes):
    first, second = scenes[:2]
    assert (first["vi"] - second["vi"]).abs().mean() > 0.05
    assert (first["ir"] - second["ir"]).abs().mean() > 0.03
    people = [scene["label"] == PERSON for scene in (first, second)]
    assert (people[0] & people[1]).sum() < 0.5 * (people[0] | people[1]).sum()


def test_layout_does_not_depend_on_the_size(scenes):
    double = render_scene(SEEDS[0], 2 * SIZE[0], 2 * SIZE[1])["label"][::2, ::2]
    single = scenes[0]["label"]
    for label in (CAR, PERSON):
        common = ((double == label) & (single == label)).sum()
        assert common > 0.6 * ((double == label) | (single == label)).sum()


def test_global_random_state_is_untouched():
    np.random.seed(7)
    torch.manual_seed(7)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = render_scene(3, 32, 32)
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert torch.equal(torch_state, torch.get_rng_state())
    np.random.seed(8)
    torch.manual_seed(8)
    assert torch.equal(first["vi"], render_scene(3, 32, 32)["vi"])


def test_cars_and_people_are_there(scenes):
    for scene in scenes:
        assert (scene["label"] == CAR).sum() > 50
        assert (scene["label"] == PERSON).sum() > 25


def test_people_are_warm(scenes):
    for scene in scenes:
        people, background = (scene["ir"][0][scene["label"] == label].mean() for label in (PERSON, 0))
        assert people > background + 0.2


def test_sky_is_cold_but_bright(scenes):
    for scene in scenes:
        top, bottom = (slice(None), slice(0, 6), slice(70, 90)), (slice(None), slice(100, 120), slice(70, 90))
        assert scene["ir"][top].mean() < scene["ir"][bottom].mean() - 0.1
        assert scene["vi"][top].mean() > scene["vi"][bottom].mean()


@pytest.mark.parametrize("label", [CAR, PERSON])
def test_outlines_of_labels_lie_on_thermal_edges(scenes, label):
    def strength(*shift):
        """Mean thermal edge on the outlines moved by a shift (dy, dx)."""
        borders = [np.roll(outline((scene["label"] == label).numpy()), shift, (0, 1)) for scene in scenes]
        return np.mean([edges(scene["ir"])[border].mean() for scene, border in zip(scenes, borders, strict=True)])

    moved = [strength(*shift) for shift in ((0, 4), (0, -4), (4, 0), (-4, 0), (3, 3), (-3, -3))]
    assert strength(0, 0) > 1.1 * max(moved)


def test_images_share_edges_but_not_contrast(scenes):
    for scene in scenes:
        ir, vi = edges(scene["ir"]), edges(scene["vi"])
        moved = max(correlation(np.roll(ir, shift, (0, 1)), vi) for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)))
        assert correlation(ir, vi) > moved + 0.05
        assert correlation(scene["ir"].numpy(), scene["vi"].mean(0).numpy()) < 0.6
