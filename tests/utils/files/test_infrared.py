"""IR files as images: the stretch of one or all, what does not enter it, and the polarity."""

import argparse

import cv2
import numpy as np
import pytest
import torch

from datasets.toy import toy_scene
from utils.errors import UserError
from utils.files.infrared import DEFAULT, InfraredReader, Reading, read_infrared
from utils.files.polarity import evidence, is_black_hot
from utils.files.stretch import stretch_argument

COUNTS = np.arange(30000, 31000, dtype=np.uint16).reshape(25, 40)


def write(path, values):
    np.save(path, values) if path.suffix == ".npy" else cv2.imwrite(str(path), values)
    return path


def test_sixteen_bits_keep_their_precision(tmp_path):
    # 1000 neighbouring counts out of 65536: in 8 bit these would be four gray levels.
    found = read_infrared(write(tmp_path / "a.tif", COUNTS))
    assert found.image.min() == 0 and found.image.max() == 1 and len(found.image.unique()) > 980
    low, high = np.percentile(COUNTS, (0.5, 99.5))
    assert found.range == (low, high) and found.missing is None
    assert found.image[0, 12, 20] == pytest.approx((COUNTS[12, 20] - low) / (high - low), abs=1e-5)


def test_one_value_and_eight_bits(tmp_path):
    assert read_infrared(write(tmp_path / "flat.png", np.full((8, 8), 700, np.uint16))).image.abs().max() == 0
    gray = np.random.default_rng(0).integers(50, 100, (8, 8), dtype=np.uint8)
    found = read_infrared(write(tmp_path / "gray.png", gray))
    assert torch.allclose(found.image[0], torch.from_numpy(gray) / 255) and found.range == (0, 255)


@pytest.mark.parametrize("sign, kind", [(np.nan, np.float32), (-9999, np.float32), (65535, np.uint16)])
def test_missing_pixels_do_not_enter_the_stretch(tmp_path, sign, kind):
    whole = COUNTS.astype(kind)
    values = whole.copy()
    values[:12], values[20, 20] = sign, sign  # 48 percent at the edge, and a hole
    found = read_infrared(write(tmp_path / "a.npy", values))
    low, high = np.percentile(whole[~found.missing[0].numpy()], (0.5, 99.5))
    assert found.range == pytest.approx((low, high)) and low > 30400
    assert found.missing.sum() == 12 * 40 + 1
    assert found.image[0, :12].abs().max() == 0  # outside, as the frame of a warp
    assert found.image[0, 20, 20] in (found.image[0, 19, 20], found.image[0, 20, 19], found.image[0, 20, 21])


@pytest.mark.parametrize("spoil", ["border", "no-data", "telemetry", "dead pixels"])
def test_what_is_no_scene_does_not_spoil_the_stretch(tmp_path, spoil):
    scene = toy_scene(0, 120, 160).ir[0].numpy()
    clean = (scene * 1000 + 7000).astype(np.uint16)
    values = clean.copy()
    if spoil == "border":
        values[:, :5] = 0
    elif spoil == "no-data":
        values[40:50, 60:90] = 65535
    elif spoil == "telemetry":
        values[:2] = np.random.default_rng(0).integers(0, 65536, (2, 160))
    else:
        values.flat[np.random.default_rng(0).choice(values.size, values.size // 100, replace=False)] = 16383
    found = read_infrared(write(tmp_path / "a.png", values))
    low, high = np.percentile(clean, (0.5, 99.5))
    assert found.range == pytest.approx((low, high), abs=0.03 * (high - low))


def test_one_stretch_for_a_set(tmp_path):
    files = [write(tmp_path / f"{n}.tif", COUNTS + np.uint16(100 * n)) for n in range(3)]
    reader = InfraredReader(files, Reading(stretch="set"))
    found = [reader.read(path) for path in files]
    assert len({image.range for image in found}) == 1 and "of the set" in found[0].statement
    low, high = found[0].range
    assert 30000 <= low < 30050 and 31150 < high <= 31200
    # The same count has the same brightness everywhere.
    assert found[0].image[0, 10, 0] == pytest.approx(float(found[1].image[0, 7, 20]), abs=1e-6)
    (tmp_path / "1.tif").write_bytes(b"damaged")
    assert 30000 <= InfraredReader(files, Reading(stretch="set")).read(files[0]).range[0] < 30050
    with pytest.raises(UserError, match="1.tif"):
        reader.read(files[1])


def test_a_given_stretch(tmp_path):
    image = read_infrared(write(tmp_path / "a.tif", COUNTS), Reading(stretch=(30100, 30300))).image
    assert image[0, 5, 0] == pytest.approx(0.5) and image[0, 0, 0] == 0 and image[0, -1, -1] == 1
    gray = np.full((8, 8), 100, np.uint8)
    assert read_infrared(write(tmp_path / "b.png", gray), Reading(stretch=(0, 200))).image.unique() == 0.5


def test_the_option_stretch():
    assert stretch_argument("set") == "set" and stretch_argument("-5,40.5") == (-5, 40.5)
    for text in ("all", "5", "7,7", "9,3", "nan,1", "0,inf", "1,2,3"):
        with pytest.raises(argparse.ArgumentTypeError, match="pair, set, or LOW,HIGH"):
            stretch_argument(text)


@pytest.fixture(scope="module")
def scenes():
    return [(toy_scene(seed, 120, 160).ir[0].numpy() * 255).round().astype(np.uint8) for seed in range(3)]


def test_a_black_hot_picture_is_inverted_and_said(tmp_path, scenes):
    for n, gray in enumerate(scenes):
        white, black = write(tmp_path / f"w{n}.png", gray), write(tmp_path / f"b{n}.png", 255 - gray)
        found = read_infrared(black)
        assert found.black_hot and "black hot" in found.statement and "--polarity white_hot" in found.notes[-1]
        assert torch.allclose(found.image, read_infrared(white).image, atol=1e-6)
        assert not read_infrared(white).black_hot and read_infrared(white).notes == []
        assert not read_infrared(black, Reading(polarity="white_hot")).black_hot
        assert read_infrared(white, Reading(polarity="black_hot")).black_hot


def test_a_black_frame_stays_black_and_does_not_mislead(tmp_path, scenes):
    for n, gray in enumerate(scenes):
        gray = gray.clip(20, 235)
        for name, picture in (("w", gray), ("b", 255 - gray)):
            picture = picture.copy()
            picture[:, :30], picture[90:] = 0, 0
            found = read_infrared(write(tmp_path / f"{name}{n}.png", picture))
            assert found.black_hot == (name == "b")
            assert found.image[0, :, :30].abs().max() == 0 and found.image[0, 90:].abs().max() == 0
            assert torch.allclose(found.image[0, :89, 31:], torch.from_numpy(gray)[:89, 31:] / 255, atol=1e-6)


def test_measurements_are_white_hot(tmp_path, scenes):
    negative = (255 - scenes[0]).astype(np.uint16) * 10 + 7000
    assert not read_infrared(write(tmp_path / "a.png", negative)).black_hot


def test_a_set_is_judged_by_all_of_its_pictures(tmp_path, scenes):
    files = [write(tmp_path / f"{n}.png", 255 - gray) for n, gray in enumerate(scenes)]
    blank = write(tmp_path / "blank.png", np.full((120, 160), 90, np.uint8))  # tells nothing by itself
    assert not read_infrared(blank).black_hot
    assert InfraredReader([*files, blank], DEFAULT).read(blank).black_hot


def test_the_evidence_changes_its_sign_with_the_picture(scenes):
    for gray in scenes:
        values = torch.from_numpy(gray)[None].float()
        assert evidence(values) > 2.2 and evidence(255 - values) == pytest.approx(-evidence(values), abs=1e-3)
    assert evidence(torch.full((1, 120, 160), 99.3)) == 0
    assert not is_black_hot([]) and is_black_hot([-3.0]) and not is_black_hot([-1.0]) and is_black_hot([-1.0] * 9)
