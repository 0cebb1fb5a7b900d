"""TIFFs that OpenCV or Pillow do not read, or not as they are."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.files.decode import decode
from utils.files.infrared import read_infrared

GRAY = np.add.outer(np.arange(24) * 300, np.arange(32) * 500).astype(np.uint16)
FORMATS = {"u": 1, "i": 2, "f": 3}
SHORT, LONG = 3, 4


def tiff(pixels, order="<", deflate=False, predictor=1):
    """A TIFF of one strip (TIFF 6.0) of the interleaved bands ``pixels`` (H, W, C), the first of them gray."""
    height, width, bands = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    if predictor == 2:
        pixels = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if deflate else content
    tags = {
        256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [bits] * bands), 259: (SHORT, [8 if deflate else 1]),
        262: (SHORT, [1]), 273: (LONG, [8]), 277: (SHORT, [bands]), 278: (LONG, [height]), 279: (LONG, [len(content)]),
        317: (SHORT, [predictor]), 338: (SHORT, [2] * (bands - 1)), 339: (SHORT, [FORMATS[pixels.dtype.kind]] * bands),
    }  # fmt: skip
    tags = {tag: value for tag, value in tags.items() if value[1]}
    content += b"\0" * (len(content) % 2)
    start = 8 + len(content)
    extra, entries = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(order + {SHORT: "H", LONG: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            place = start + 2 + 12 * len(tags) + 4 + len(extra)
            extra, packed = extra + packed + b"\0" * (len(packed) % 2), struct.pack(order + "I", place)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + content + struct.pack(order + "H", len(tags)) + entries + bytes(4) + extra


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate, predictor", [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("alpha", [65535, 0, 1234])
def test_gray_with_alpha_keeps_its_sixteen_bits(order, deflate, predictor, alpha):
    data = tiff(np.dstack([GRAY, np.full_like(GRAY, alpha)]), order, deflate, predictor)
    pixels = decode(data, Path("a.tif"))
    assert pixels.array.dtype == np.uint16 and np.array_equal(pixels.array[:, :, 0], GRAY) and pixels.pages == 1


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits"])
def test_gray_with_alpha_of_eight_bits_is_not_multiplied(tmp_path, compression):
    gray = (GRAY >> 8).astype(np.uint8)
    Image.fromarray(np.dstack([gray, 255 - gray]), "LA").save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(decode((tmp_path / "a.tif").read_bytes(), tmp_path / "a.tif").array[:, :, 0], gray)


def test_a_thermal_file_with_alpha_is_stretched_from_all_its_levels(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(np.dstack([GRAY, np.full_like(GRAY, 65535)])))
    assert len(read_infrared(tmp_path / "a.tif").image.unique()) > 100


@pytest.mark.parametrize(
    "pixels, said",
    [
        (GRAY[:, :, None].astype(np.float16), "1 band of float16"),
        (np.dstack([GRAY] * 5), "5 bands of uint16"),
        (np.dstack([(GRAY >> 8).astype(np.uint8)] * 5), "5 bands of uint8"),
    ],
)
def test_what_is_refused_is_described(pixels, said):
    with pytest.raises(UserError, match=f"a.tif: not a readable image .*: {said}; 1 to 4 bands of 8, 16 or 32 bits"):
        decode(tiff(pixels), Path("a.tif"))


def test_no_damage_is_more_than_a_line():
    data = tiff(np.dstack([GRAY, np.full_like(GRAY, 65535)]), deflate=True, predictor=2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(4, len(data), 4):
            damaged[place] = rng.integers(256)
        try:
            decode(bytes(damaged[: rng.integers(len(data) // 2, len(data))]), Path("a.tif"))
        except UserError as error:
            assert str(error).startswith("a.tif: ")
