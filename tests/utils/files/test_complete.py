"""Truncated and damaged image files are told from whole ones by their structure."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.files.complete import missing


def encoded(kind, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 31, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def thumbnail():
    exif = Image.Exif()
    exif[0x010E] = encoded("JPEG")  # a whole JPEG, with its own end, in front of the pixels
    return exif


def run_length_bmp():
    header = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 8, 1, 4, 0, 0, 256, 0)
    palette = b"".join(bytes((i, i, i, 0)) for i in range(256))
    start = 14 + 40 + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + 4, 0, 0, start) + header + palette + bytes((4, 90, 0, 1))


FILES = {
    "png": encoded("PNG"),
    "uncompressed png": encoded("PNG", compress_level=0),
    "jpeg": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "jpeg with a thumbnail": encoded("JPEG", exif=thumbnail()),
    "bmp": encoded("BMP"),
    "bmp of run lengths": run_length_bmp(),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
def test_whole_files_pass_and_every_truncation_is_found(data):
    assert missing(data) is None and missing(data + b"trailing bytes") is None
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) is not None
    lengths = {*range(8, 60), *range(60, len(data) - 20, 97), *range(len(data) - 20, len(data))}
    assert [length for length in lengths if 8 <= length < len(data) and missing(data[:length]) is None] == []


def test_damage_in_a_png_is_found():
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 1
    assert "checksum of chunk b'IDAT'" in missing(bytes(data))


def test_other_kinds_are_left_to_their_decoder():
    assert missing(b"") is None and missing(b"II*\0") is None and missing(b"not an image") is None
