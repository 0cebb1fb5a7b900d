"""Thermal files of every kind come back with the values that they store."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from utils.errors import UserError
from utils.files import thermal
from utils.files.false_colour import known_palettes
from utils.files.radiometric import Radiometric
from utils.files.thermal import CELSIUS, COLOUR, COUNTS, FLOATS, GRAY, PALETTE, read_thermal

RAMP = np.arange(17 * 23).reshape(17, 23)


@pytest.mark.parametrize("kind", ["uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("extension", ["tif", "npy"])
def test_measurements_keep_their_values(tmp_path, kind, extension):
    values = (RAMP - (200 if kind != "uint16" else 0)).astype(kind) * np.asarray(7, kind)
    path = tmp_path / f"a.{extension}"
    np.save(path, values) if extension == "npy" else cv2.imwrite(str(path), values)
    found = read_thermal(path)
    assert found.values.dtype == torch.float32 and torch.equal(found.values[0], torch.from_numpy(values).float())
    assert found.unit == (FLOATS if "float" in kind else COUNTS) and found.measured and found.notes == []


def test_sixteen_bit_png_holds_counts(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RAMP.astype(np.uint16) + 7000)
    found = read_thermal(tmp_path / "a.png")
    assert found.unit == COUNTS and torch.equal(found.values[0], torch.from_numpy(RAMP + 7000).float())


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate"])
def test_compressed_tiff(tmp_path, compression):
    Image.fromarray(RAMP.astype(np.float32) - 40.5).save(tmp_path / "a.tif", compression=compression)
    assert torch.equal(read_thermal(tmp_path / "a.tif").values[0], torch.from_numpy(RAMP - 40.5).float())


@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bit_gray_is_one_channel(tmp_path, channels):
    pixels = RAMP.astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, None].repeat(channels, axis=2))
    found = read_thermal(tmp_path / "a.png")
    assert found.unit == GRAY and not found.measured
    assert torch.equal(found.values, torch.from_numpy(pixels)[None].float())


def test_gray_with_the_noise_of_a_colour_jpeg_is_one_channel(tmp_path):
    pixels = np.tile(np.linspace(20, 230, 23), (17, 1))[:, :, None] + np.array([1, 0, -1])
    cv2.imwrite(str(tmp_path / "a.png"), pixels.round().astype(np.uint8)[:, :, ::-1])
    found = read_thermal(tmp_path / "a.png")
    assert found.unit == GRAY and found.values.shape == (1, 17, 23)
    assert (found.values[0] - torch.from_numpy(pixels[:, :, 1])).abs().max() < 1


def test_false_colours_become_a_scalar_unless_they_are_kept(tmp_path):
    gray = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    colours = known_palettes()["ironbow"].round().astype(np.uint8)[gray]
    cv2.imwrite(str(tmp_path / "a.png"), colours[:, :, ::-1])
    found = read_thermal(tmp_path / "a.png")
    assert found.unit == PALETTE and found.values.shape == (1, 16, 256) and "ironbow" in found.notes[0]
    assert (found.values[0] - torch.from_numpy(gray)).abs().max() < 2
    kept = read_thermal(tmp_path / "a.png", colours="keep")
    assert kept.unit == COLOUR and torch.equal(kept.values, torch.from_numpy(colours.transpose(2, 0, 1)).float())


def test_pages(tmp_path):
    pages = [np.full((8, 9), value, np.uint16) for value in (10, 20, 30)]
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    cv2.imwritemulti(str(tmp_path / "doubles.tif"), [page.astype(np.float64) for page in pages])
    np.save(tmp_path / "a.npy", np.stack(pages))
    for name in ("a.tif", "doubles.tif", "a.npy"):
        found = read_thermal(tmp_path / name)
        assert found.values.unique() == 10 and found.page == 1 and "--page" in found.notes[0]
        found = read_thermal(tmp_path / name, page=3)
        assert found.values.unique() == 30 and found.page == 3 and found.notes == []
        with pytest.raises(UserError, match=f"{name}: has 3 pages, no page 4"):
            read_thermal(tmp_path / name, page=4)
    gray = Image.fromarray(pages[0].astype(np.uint8))
    gray.save(tmp_path / "preview.jpg", format="MPO", save_all=True, append_images=[gray])
    assert read_thermal(tmp_path / "preview.jpg").notes == []
    cv2.imwrite(str(tmp_path / "single.png"), pages[1])
    assert read_thermal(tmp_path / "single.png", page=2).values.unique() == 20


def test_what_is_missing_is_nan_and_said(tmp_path):
    values = RAMP.astype(np.float32)
    values[3, 4], values[5, 6], values[8:12, 9:14] = np.nan, np.inf, -9999
    cv2.imwrite(str(tmp_path / "a.tif"), values)
    found = read_thermal(tmp_path / "a.tif")
    expected = np.where(np.isfinite(values) & (values > -9999), values, np.nan)
    np.testing.assert_array_equal(found.values[0].numpy(), expected)
    assert "missing pixels" in found.notes[0]


def test_the_no_data_value_that_a_tiff_names(tmp_path):
    values = RAMP.astype(np.float32)
    values[2, 3] = 111.0  # in the midst of the other values
    values[9, 9] = 111.0
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={42113: "111\0"})
    assert np.isnan(read_thermal(tmp_path / "a.tif").values[0].numpy()).nonzero()[0].tolist()[:2] == [2, 4]


def test_radiometric_files_are_in_degrees(tmp_path, monkeypatch):
    read = Radiometric(np.array([[21.5, np.nan]], np.float32), np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(thermal, "read_radiometric", lambda data, path: read)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    found = read_thermal(tmp_path / "a.jpg")
    assert found.unit == CELSIUS and found.has_visible and found.values[0, 0, 0] == 21.5
    assert found.values[0, 0].isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("none.tif", None, "no such file"),
        ("all.npy", np.full((4, 4), np.nan), "no valid pixel"),
        ("flat.npy", np.zeros(7), "an image is"),
        ("text.npy", np.array([["a"]]), "an image is"),
        ("colour.npy", np.random.default_rng(0).random((4, 4, 3)), "one channel"),
        ("broken.npy", b"\x93NUMPY\x01", "not a readable .npy"),
        ("broken.tif", b"II*\0\x08\0\0\0", "not a readable image"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, problem):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        np.save(tmp_path / name, content)
    with pytest.raises(UserError, match=f"{name}.*{problem}"):
        read_thermal(tmp_path / name)


@pytest.mark.filterwarnings("error")
def test_half_floats_are_values(tmp_path):
    values = np.linspace(-5, 30, 400).reshape(20, 20).astype(np.float16)
    np.save(tmp_path / "a.npy", values)
    found = read_thermal(tmp_path / "a.npy")
    assert found.unit == FLOATS and np.array_equal(found.values[0].numpy(), values.astype(np.float32))
