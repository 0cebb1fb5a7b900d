"""What counts as missing, and what looks like it but is a value."""

import cv2
import numpy as np
import pytest

from utils.files.no_data import missing_pixels

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(7000, 8000, (60, 80)).astype(np.uint16)
CELSIUS = (RNG.random((60, 80)) * 35 - 5).astype(np.float32)


def test_numbers_that_are_none():
    values = CELSIUS.copy()
    values[1, 2], values[3, 4], values[5, 6], values[7, 8] = np.nan, np.inf, -np.inf, -3.4e38
    assert np.argwhere(missing_pixels(values)).tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert not missing_pixels(CELSIUS).any() and not missing_pixels(COUNTS).any()


@pytest.mark.parametrize(
    "base, sign",
    [
        (COUNTS, 65535),
        (COUNTS, 0),
        (CELSIUS, -9999),
        (COUNTS.astype(np.int16), -32768),
        (COUNTS.astype(np.int32), -9999),
    ],
)
def test_signs_far_from_all_else(base, sign):
    values = base.copy()
    values[20:30, 40:60] = sign
    assert np.array_equal(missing_pixels(values), values == sign)


def test_a_saturated_flame_is_hot():
    values = COUNTS.copy()
    values[20:30, 20:30] = np.linspace(8000, 65535, 100).reshape(10, 10).round()  # the flame's edge is between
    assert not missing_pixels(values).any()


@pytest.mark.parametrize("base", [COUNTS, CELSIUS, CELSIUS + 6, (CELSIUS * 100).astype(np.int16)])
def test_a_black_frame(base):
    values = base.copy()
    values[:, :9], values[55:] = 0, 0
    frame = np.zeros(values.shape, bool)
    frame[:, :9], frame[55:] = True, True
    assert (missing_pixels(values) != frame).mean() < 0.001


def test_the_blended_edge_of_a_warped_frame_goes_with_it():
    # A shift by 5.5 pixels with zeros outside: column 5 is half a value.
    moved = cv2.warpAffine(COUNTS.astype(np.float32), np.float32([[1, 0, 5.5], [0, 1, 0]]), (80, 60))
    assert 3400 < moved[:, 5].mean() < 4100
    absent = missing_pixels(moved)
    assert absent[:, :6].all() and not absent[:, 6:].any()


def test_frost_and_a_dark_sky_are_values():
    whole = np.round(CELSIUS)  # whole degrees: hundreds of pixels are exactly 0, many at the border
    assert (whole == 0).sum() > 100 and not missing_pixels(whole).any()
    sky = np.clip(RNG.normal(20, 30, (60, 80)), 0, None).astype(np.uint16)  # clipped at 0, with values near it
    assert (sky == 0).mean() > 0.2 and not missing_pixels(sky).any()


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_many_dead_pixels_do_not_count(kind):
    values = COUNTS.astype(kind)
    dead = np.zeros(values.shape, bool)
    dead[RNG.integers(0, 60, 50), RNG.integers(0, 80, 50)] = True  # one percent
    values[dead] = 16383
    assert np.array_equal(missing_pixels(values), dead)
    values[dead] = RNG.integers(12000, 60000, dead.sum())
    assert np.array_equal(missing_pixels(values), dead)


def test_one_hot_pixel_and_a_fire_are_values():
    values = COUNTS.copy()
    values[10, 10] = 16383
    assert not missing_pixels(values).any()
    values[30:38, 30:38] = 30000  # 1.3 percent, together
    values[30, 30:34] = 7500
    assert not missing_pixels(values).any()


@pytest.mark.parametrize("line", [np.s_[:, 17], np.s_[23:25]])
def test_a_dead_line(line):
    values = COUNTS.copy()
    values[line] = 1
    dead = np.zeros(values.shape, bool)
    dead[line] = True
    assert np.array_equal(missing_pixels(values), dead)


@pytest.mark.parametrize("rows", [np.s_[:3], np.s_[-2:]])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_telemetry_rows(rows, share):
    values = COUNTS.copy()
    words = RNG.integers(1, 65536, values[rows].shape)  # a frame counter, a serial number, temperatures ...
    values[rows] = np.where(RNG.random(words.shape) < share, words, 0)
    absent = missing_pixels(values)
    assert absent[rows].all() and absent.sum() == absent[rows].size


def test_a_hot_thing_at_the_edge_is_no_telemetry():
    values = COUNTS.copy()
    values[-20:, 30:50] = 20000
    assert not missing_pixels(values).any()


def test_an_image_of_one_value():
    assert not missing_pixels(np.zeros((8, 8), np.uint16)).any()
    assert not missing_pixels(np.full((8, 8), 65535, np.uint16)).any()
