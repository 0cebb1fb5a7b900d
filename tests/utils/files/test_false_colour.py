"""False colours: the scalar comes back, from PNG and JPEG, with hot as high; photographs and grays are left alone."""

import cv2
import matplotlib
import numpy as np
import pytest

from datasets.toy import toy_scene
from utils.files.false_colour import known_palettes, to_scalar


@pytest.fixture(scope="module")
def scene():
    return toy_scene(0, 120, 160)


def coloured(scene, palette):
    gray = (scene.ir[0].numpy() * 255).round().astype(np.uint8)
    return gray, palette.round().astype(np.uint8)[gray]


def through_jpeg(pixels, quality):
    data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


@pytest.mark.parametrize("name", known_palettes())
def test_known_palettes(scene, name):
    gray, pixels = coloured(scene, known_palettes()[name])
    found = to_scalar(pixels)
    assert found.palette == name and found.values.dtype == np.float32
    assert np.abs(found.values - gray).mean() < 2
    found = to_scalar(through_jpeg(pixels, 90))
    assert np.corrcoef(found.values.ravel(), gray.ravel())[0, 1] > 0.93


@pytest.mark.parametrize("name", ["gnuplot2", "YlOrRd_r", "cool"])
def test_a_palette_that_nobody_told(scene, name):
    gray, pixels = coloured(scene, matplotlib.colormaps[name](np.arange(256))[:, :3] * 255)
    found = to_scalar(pixels)
    assert found.palette == "a palette of its own"
    assert abs(np.corrcoef(found.values.ravel(), gray.ravel())[0, 1]) > 0.95
    assert found.values.min() < 10 and found.values.max() > 245


def test_another_makers_ironbow_is_hot_where_it_is_bright(scene):
    gray, pixels = coloured(scene, np.clip(known_palettes()["ironbow"] * (0.8, 1, 0.9) + (30, 25, -10), 0, 255))
    assert np.corrcoef(to_scalar(pixels).values.ravel(), gray.ravel())[0, 1] > 0.97


def test_photographs_and_grays_are_left_alone(scene):
    photograph = (scene.vi.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    assert to_scalar(photograph) is None
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert to_scalar(noise) is None
    gray, pixels = coloured(scene, np.stack([np.arange(256.0)] * 3, axis=1) * (1, 0.95, 0.9))
    assert to_scalar(pixels) is None
