"""Image files of every supported format, and clear errors for the others."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from utils.errors import UserError
from utils.files import images
from utils.files.images import VisibleReader, read_image, read_result, read_visible, write_image
from utils.files.radiometric import Radiometric
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


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_visible_is_scaled_by_its_range(tmp_path, extension):
    pixels = np.array([[0, 65535], [32768, 257]], np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{extension}"), pixels)
    expected = torch.tensor([[0, 1], [32768 / 65535, 257 / 65535]])
    assert torch.allclose(read_image(tmp_path / f"a.{extension}")[0], expected)


def test_a_visible_image_of_floats_is_stretched_and_of_other_types_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "floats.tif"), np.linspace(280, 320, 400, dtype=np.float32).reshape(20, 20))
    image = read_image(tmp_path / "floats.tif")
    assert image.min() == 0 and image.max() == 1
    cv2.imwrite(str(tmp_path / "nan.tif"), np.full((8, 8), np.nan, np.float32))
    cv2.imwrite(str(tmp_path / "int.tif"), np.zeros((8, 8), np.int32))
    for name in ("nan", "int"):
        with pytest.raises(UserError, match=f"{name}.tif"):
            read_image(tmp_path / f"{name}.tif")


def turned(pixels, orientation):
    """How CIPA's standard draws the eight orientations of the letter F, as turns and mirrors of NumPy."""
    mirrored = {2: 0, 4: 2, 5: 1, 7: 3}
    if orientation in mirrored:
        return np.rot90(np.fliplr(pixels), mirrored[orientation])
    return np.rot90(pixels, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension, depth", [("png", "8"), ("png", "16"), ("tif", "8"), ("tif", "16"), ("jpg", "8")])
def test_every_orientation_is_turned_upright(tmp_path, orientation, extension, depth):
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:8, :8], pixels[:8, 8:16] = 255, 120
    if depth == "16":
        pixels = pixels * np.uint16(256)
    exif = Image.Exif()
    exif[0x0112] = orientation
    extra = {"tiffinfo": {0x0112: orientation}} if extension == "tif" else {"exif": exif}
    Image.fromarray(pixels).save(tmp_path / f"a.{extension}", **extra)
    expected = turned(pixels / np.iinfo(pixels.dtype).max, orientation)
    image = read_image(tmp_path / f"a.{extension}")
    assert image.shape[1:] == expected.shape and np.abs(image[0].numpy() - expected).max() < 0.05


def test_the_photograph_in_a_radiometric_file_is_its_visible_image(tmp_path, monkeypatch):
    photograph = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    monkeypatch.setattr(images, "is_flir", lambda data: True)
    monkeypatch.setattr(images, "read_radiometric", lambda data, path: Radiometric(np.zeros((8, 8)), photograph))
    (tmp_path / "a.jpg").write_bytes(b"")
    image, lines = read_visible(tmp_path / "a.jpg")
    assert torch.allclose(image, torch.from_numpy(photograph.transpose(2, 0, 1)) / 255) and "photograph" in lines[0]
    monkeypatch.setattr(images, "read_radiometric", lambda data, path: Radiometric(np.zeros((8, 8))))
    with pytest.raises(UserError, match="a.jpg: .* without a visible photograph"):
        read_visible(tmp_path / "a.jpg")


def test_a_visible_file_of_several_pages(tmp_path):
    first, second = (Image.fromarray(np.full((16, 16), value, np.uint8)) for value in (51, 102))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    image, lines = read_visible(tmp_path / "a.tif")
    assert image.max() == pytest.approx(0.2) and "--page" in lines[0]
    image, lines = read_visible(tmp_path / "a.tif", page=2)
    assert image.max() == pytest.approx(0.4) and lines == []


def scene(bits, brightest=1.0):
    """A visible image of 16-bit numbers that uses so many bits."""
    ramp = np.linspace(0, brightest, 64 * 96).reshape(64, 96)
    return (ramp * (2**bits - 1)).round().astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_a_sixteen_bit_file_are_not_dark(tmp_path, bits):
    pixels = scene(bits, 0.95)
    pixels[5, 5] = 65535  # a hot pixel is none of them
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    image, lines = read_visible(tmp_path / "a.png")
    assert image[0, -1, -1] == pytest.approx(0.95, abs=0.003) and image[0, 32].mean() == pytest.approx(0.48, abs=0.02)
    assert lines == [f"VI holds {bits} bits in a 16-bit file and is read so; --vi_bits 16 takes it as it is"]
    image, lines = read_visible(tmp_path / "a.png", bits=16)
    assert image[0, -1, -1] == pytest.approx(0.95 * (2**bits - 1) / 65535, abs=1e-4) and lines == []


@pytest.mark.parametrize("brightest, dark", [(1.0, False), (0.6, False), (0.05, True), (0.02, True)])
def test_whole_and_dark_sixteen_bits_stay(tmp_path, brightest, dark):
    pixels = scene(16, brightest)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels)
    image, lines = read_visible(tmp_path / "a.tif")
    assert torch.allclose(image[0], torch.from_numpy(pixels / 65535).float())
    assert [line.startswith("VI is dark") for line in lines] == [True] * dark


def test_the_bits_of_a_set_are_one_decision(tmp_path):
    files = [tmp_path / f"{n}.png" for n in range(3)]
    for path, brightest in zip(files, (0.2, 1.0, 0.4)):
        cv2.imwrite(str(path), scene(12, brightest))
    reader = VisibleReader(files)
    assert [reader.read(path)[0].max().item() for path in files] == pytest.approx([0.2, 1.0, 0.4], abs=0.001)


def test_a_fourth_channel_that_is_a_picture_is_told(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 4), dtype=np.uint8)
    cutout = pixels.copy()
    cutout[:, :, 3] = np.where(np.arange(40) < 20, 0, 255)
    cutout[:, 20, 3] = np.arange(32)  # a soft edge
    for name, each, told in (("t", pixels, True), ("a", cutout, False)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), each)
        assert any("--rgbt" in line for line in read_visible(tmp_path / f"{name}.png")[1]) == told


@pytest.mark.parametrize("extension", ["webp", "jp2", "pgm", "ppm", "gif"])
def test_other_formats(tmp_path, extension):
    pixels = np.tile(np.arange(0, 240, 6, dtype=np.uint8), (32, 1))
    if extension == "gif":  # for which OpenCV has 216 colours
        Image.fromarray(pixels).save(tmp_path / "a.gif")
    else:
        cv2.imwrite(str(tmp_path / f"a.{extension}"), pixels if extension == "pgm" else np.dstack([pixels] * 3))
    image = read_image(tmp_path / f"a.{extension}")
    assert image.shape[1:] == (32, 40) and np.abs(image[0].numpy() - pixels / 255).max() < 0.05


def test_the_pages_of_a_gif(tmp_path):
    pages = [Image.fromarray(np.full((16, 16), value, np.uint8)) for value in (51, 102)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    image, lines = read_visible(tmp_path / "a.gif", page=2)
    assert image.mean() == pytest.approx(0.4, abs=0.01) and lines == []
    assert "--page" in read_visible(tmp_path / "a.gif")[1][0]


def test_more_pixels_than_pillow_allows_is_a_line(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 96), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 96 // 2 - 1)
    with pytest.raises(UserError, match="a.png: has more than 0 million pixels; reduce it"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 96 // 2)  # of which Pillow warns
    assert read_image(tmp_path / "a.png").shape == (1, 64, 96)


def test_results_of_floats_are_read_as_they_are(tmp_path):
    values = np.linspace(0.2, 0.7, 400, dtype=np.float32).reshape(20, 20)
    for name, offset, told in (("in", 0, []), ("out", 0.4, ["floats leave [0, 1] and are clipped"])):
        cv2.imwrite(str(tmp_path / f"{name}.tif"), values + np.float32(offset))
        image, lines = read_result(tmp_path / f"{name}.tif")
        assert lines == told and torch.allclose(image[0], torch.from_numpy(values + offset).float().clamp(max=1))
    cv2.imwrite(str(tmp_path / "levels.tif"), values * 255)
    with pytest.raises(UserError, match="levels.tif: holds floats from 51 to 178.5; those of a result lie in .0, 1."):
        read_result(tmp_path / "levels.tif")


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif", "webp", "jp2", "pgm", "gif"])
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
