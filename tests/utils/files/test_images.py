"""Image files of every supported format, and clear errors for the others."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from utils.errors import UserError
from utils.files.images import read_image, write_image
from utils.files.writing import check_writable, write_bytes, write_file


@pytest.fixture
def gray():
    return np.random.default_rng(0).integers(0, 256, (17, 23), dtype=np.uint8)


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_eight_bit(tmp_path, extension, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, channels), dtype=np.uint8)
    path = tmp_path / f"a.{extension}"
    assert cv2.imwrite(str(path), pixels)
    image = read_image(path)
    expected = pixels if channels == 1 else pixels[:, :, 2::-1]
    assert image.dtype == torch.float32 and image.shape == (1 if channels == 1 else 3, 17, 23)
    assert torch.allclose(image, torch.from_numpy(expected.transpose(2, 0, 1).copy()) / 255)


def test_jpeg_channel_order(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 2] = 255
    cv2.imwrite(str(tmp_path / "a.jpg"), red)
    assert torch.allclose(read_image(tmp_path / "a.jpg").mean((1, 2)), torch.tensor([1.0, 0.0, 0.0]), atol=0.02)


def test_a_photograph_taken_on_its_side_is_turned_upright(tmp_path):
    picture = Image.fromarray(np.pad(np.full((16, 16), 255, np.uint8), ((0, 0), (0, 32))))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (1, 48, 16) and image[0, :12].mean() > 0.9 and image[0, 20:].mean() < 0.1


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_visible_is_scaled_by_its_range(tmp_path, extension):
    pixels = np.array([[0, 65535], [32768, 257]], np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{extension}"), pixels)
    expected = torch.tensor([[0, 1], [32768 / 65535, 257 / 65535]])
    assert torch.allclose(read_image(tmp_path / f"a.{extension}")[0], expected)


def test_sixteen_bit_thermal_keeps_its_precision(tmp_path):
    # 1000 neighbouring counts out of 65536: in 8 bit these would be four gray levels.
    pixels = np.arange(30000, 31000, dtype=np.uint16).reshape(25, 40)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels)
    image = read_image(tmp_path / "a.tif", stretch=True)
    assert image.min() == 0 and image.max() == 1
    assert len(image.unique()) > 980
    low, high = np.percentile(pixels, (0.5, 99.5))
    assert image[0, 12, 20] == pytest.approx((pixels[12, 20] - low) / (high - low), abs=1e-5)


def test_thermal_of_one_value_and_of_float(tmp_path):
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((8, 8), 700, np.uint16))
    assert read_image(tmp_path / "flat.png", stretch=True).abs().max() == 0
    cv2.imwrite(str(tmp_path / "kelvin.tif"), np.linspace(280, 320, 400, dtype=np.float32).reshape(20, 20))
    image = read_image(tmp_path / "kelvin.tif", stretch=True)
    assert image.min() == 0 and image.max() == 1
    cv2.imwrite(str(tmp_path / "nan.tif"), np.full((8, 8), np.nan, np.float32))
    with pytest.raises(UserError, match="nan.tif"):
        read_image(tmp_path / "nan.tif", stretch=True)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_truncated_files_are_named(tmp_path, extension, share, gray):
    path = tmp_path / f"a.{extension}"
    cv2.imwrite(str(path), gray)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=f"a.{extension}"):
        read_image(path)


def test_other_files_are_named(tmp_path):
    with pytest.raises(UserError, match="none.png: no such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(UserError, match="text.png"):
        read_image(tmp_path / "text.png")


def test_write_and_read_back(tmp_path, gray):
    image = torch.from_numpy(np.stack([gray, gray // 2, 255 - gray])) / 255
    write_image(tmp_path / "new" / "a.png", image)
    assert torch.equal(read_image(tmp_path / "new" / "a.png"), image)
    write_image(tmp_path / "b.png", image[:1] * 3 - 1)
    assert torch.equal(read_image(tmp_path / "b.png"), ((image[:1] * 3 - 1).clamp(0, 1) * 255).round() / 255)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"old")

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(UserError, match="a: cannot be written .No space left"):
        write_bytes(tmp_path / "a", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="taken"):
        check_writable(tmp_path / "taken")
    check_writable(tmp_path / "free")
    assert list((tmp_path / "free").iterdir()) == []


def test_a_file_whose_writer_fails_stays_as_it_was(tmp_path):
    write_file(tmp_path / "a", lambda file: file.write(b"old"))
    assert (tmp_path / "a").read_bytes() == b"old"

    def half(file):
        file.write(b"new")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_file(tmp_path / "a", half)
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
