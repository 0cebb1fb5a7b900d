"""Unlike cameras: what IR shows lies where the true map says, and is drawn from the ranges by seed and name."""

import numpy as np
import pytest
import torch
from kornia.geometry.linalg import transform_points

from datasets.cameras import Cameras, unlike_cameras
from datasets.paired import Pair
from models.warping import pixel_grid, sample
from utils.errors import UserError

SIZE = (120, 160)


def scene(name="a", size=SIZE):
    image = torch.rand(1, 4, 8, 10, generator=torch.Generator().manual_seed(1))
    image = torch.nn.functional.interpolate(image, size, mode="bicubic", align_corners=False).clamp(0, 1)[0]
    return Pair(name, image[:1], image[1:])


def sensor(pair):
    return pair.ir.shape[-1], pair.ir.shape[-2]


def corners(pair):
    """IR's corners and centre on VI's frame, (5, 2)."""
    width, height = sensor(pair)
    points = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1], [(width - 1) / 2, (height - 1) / 2]]
    return transform_points(torch.linalg.inv(pair.vi_to_ir)[None], torch.tensor([points], dtype=torch.float64))[0]


@pytest.mark.parametrize("size", [(640, 512), (80, 60), (40, 32)])
@pytest.mark.parametrize("seed", range(3))
def test_ir_shows_what_the_true_map_says(seed, size):
    pair = scene()
    made = unlike_cameras(pair, seed, Cameras(sensors=(size,), tilt=0.1))
    assert made.ir.shape == (1, size[1], size[0]) and made.vi is pair.vi and made.vi_to_ir.dtype == torch.float64
    points = pixel_grid(*SIZE, like=made.vi_to_ir).flatten(2).mT
    positions = transform_points(made.vi_to_ir[None], points).mT.view(1, 2, *SIZE)
    # The scene has no detail that even the smallest sensor would miss by much.
    inside = (positions >= 1).all(1) & (positions <= positions.new_tensor(size).view(1, 2, 1, 1) - 2).all(1)
    back = sample(made.ir[None], positions.float())[0]
    assert inside.float().mean() > 0.05
    limit = 0.005 if size[0] >= 80 else 0.02
    shifted = sample(made.ir[None], (positions + 0.02 * size[0]).float())[0]
    assert (back - pair.ir)[inside].abs().mean() < limit < (shifted - pair.ir)[inside].abs().mean()


def test_the_seed_and_the_name_decide():
    made, again = (unlike_cameras(scene(), 3) for _ in range(2))
    assert torch.equal(made.ir, again.ir) and torch.equal(made.vi_to_ir, again.vi_to_ir)
    assert not torch.equal(made.vi_to_ir, unlike_cameras(scene("b"), 3).vi_to_ir)
    assert not torch.equal(made.vi_to_ir, unlike_cameras(scene(), 4).vi_to_ir)


@pytest.mark.parametrize("rotation", [8, 180])
def test_cameras_are_drawn_from_the_ranges(rotation):
    cameras = Cameras(view=(0.4, 0.7), rotation=rotation, tilt=0.0, sensors=((64, 48), (40, 32)))
    made = [unlike_cameras(scene(), seed, cameras) for seed in range(60)]
    assert {sensor(pair) for pair in made} == set(cameras.sensors)
    angles, shares = [], []
    for pair in made:
        points = corners(pair)
        (x, y) = points[1] - points[0]
        angles.append(float(torch.rad2deg(torch.atan2(y, x))))
        # From pixel centre to pixel centre; a frame has one pixel more.
        shares.append(float(torch.hypot(x, y)) * sensor(pair)[0] / (sensor(pair)[0] - 1) / SIZE[1])
        assert (points >= 0).all() and (points <= torch.tensor([SIZE[1] - 1, SIZE[0] - 1])).all()
    assert 0.8 * rotation < np.abs(angles).max() <= rotation and min(angles) < 0 < max(angles)
    assert 0.3 < min(shares) and max(shares) <= 0.7 + 1e-9 and max(shares) - min(shares) > 0.2


def test_images_that_are_not_aligned_are_refused():
    pair = scene()
    with pytest.raises(UserError, match="a: the images differ in size .*120x100 and 120x160; they must be aligned"):
        unlike_cameras(Pair("a", pair.ir[:, :, :100], pair.vi), 0)
