"""Radiometric JPEGs of FLIR and DJI, made byte by byte, and what is said without the package that reads them."""

import io
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.files.radiometric import is_flir, read_radiometric

R1, R2, B, F, OFFSET = 15000.0, 0.0125, 1400.0, 1.0, -7000  # Planck's constants of a made-up camera


def jpeg(size=(8, 6), orientation=1):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (200, 30, 60)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def with_segments(picture, segments):
    """Put segments (marker, content) right behind the start marker, or the EXIF segment if there is one."""
    start = 4 + int.from_bytes(picture[4:6], "big") if picture[2:4] == b"\xff\xe1" else 2
    packed = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(c) + 2) + c for marker, c in segments)
    return picture[:start] + packed + picture[start:]


def flir_file(counts, photograph=None, orientation=1):
    """The smallest file that flyr reads: a directory with raw data, the camera's constants and the photograph."""
    height, width = counts.shape
    camera = bytearray(900)
    struct.pack_into("<6f", camera, 32, 1.0, 0.0, 20.0, 20.0, 20.0, 1.0)  # emissivity, distance, temperatures, window
    struct.pack_into("<f", camera, 60, 0.5)
    struct.pack_into("<3f", camera, 88, R1, B, F)
    struct.pack_into("<5f", camera, 112, 0.0066, 0.0126, -0.0023, -0.0067, 1.9)
    struct.pack_into("<if", camera, 776, OFFSET, R2)
    header = struct.pack("<HHH", 2, width, height) + bytes(26)
    records = [(1, header + counts.astype("<u2").tobytes()), (32, bytes(camera))]
    if photograph is not None:
        buffer = io.BytesIO()
        Image.fromarray(photograph).save(buffer, "PNG")
        size = struct.pack("<HHH", 0, photograph.shape[1], photograph.shape[0])
        records.append((14, size + bytes(26) + buffer.getvalue()))
    directory, content, offset = b"", b"", 64 + 32 * len(records)
    for kind, record in records:
        directory += struct.pack(">HHIIII", kind, 1, 100, 1, offset + len(content), len(record)) + bytes(12)
        content += record
    # flyr counts the header of 64 bytes as two entries of the directory.
    start = b"FFF\0" + bytes(16) + struct.pack(">III", 100, 64, len(records) + 2)
    return with_segments(
        jpeg(orientation=orientation), [(0xE1, b"FLIR\0\x01\0\0" + start.ljust(64, b"\0") + directory + content)]
    )


def celsius(counts):
    """Planck's law as FLIR writes it; with an emissivity of 1 and no air between."""
    return B / np.log(R1 / (R2 * (counts + OFFSET)) + F) - 273.15


COUNTS = np.arange(14000, 14048).reshape(6, 8) * 1.0


def test_flir_temperatures_and_photograph(tmp_path):
    pytest.importorskip("flyr")
    photograph = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    data = flir_file(COUNTS, photograph)
    found = read_radiometric(data, tmp_path / "a.jpg")
    np.testing.assert_allclose(found.values, celsius(COUNTS), atol=1e-3)
    assert found.values.dtype == np.float32 and np.array_equal(found.visible, photograph)
    assert read_radiometric(flir_file(COUNTS), tmp_path / "a.jpg").visible is None


def test_flir_temperatures_are_turned_as_their_picture(tmp_path):
    pytest.importorskip("flyr")
    found = read_radiometric(flir_file(COUNTS, orientation=6), tmp_path / "a.jpg")
    np.testing.assert_allclose(found.values, np.rot90(celsius(COUNTS), -1), atol=1e-3)


def test_a_flir_file_is_a_pair_by_itself(tmp_path):
    pytest.importorskip("flyr")
    from datasets.paired import PairedFolders  # which needs torch; nothing else here does

    photograph = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    (tmp_path / "FLIR_1.jpg").write_bytes(flir_file(COUNTS, photograph))
    pair = PairedFolders(tmp_path, tmp_path)[0]
    assert pair.ir.shape == (1, 6, 8) and pair.infrared.thermal.unit == "degrees Celsius"
    assert np.array_equal((pair.vi * 255).round().byte().permute(1, 2, 0).numpy(), photograph)
    assert pair.notes == ["VI is the photograph in the radiometric file"]
    (tmp_path / "FLIR_1.jpg").write_bytes(flir_file(COUNTS))
    with pytest.raises(UserError, match="without a visible photograph"):
        PairedFolders(tmp_path, tmp_path)[0]


def test_a_damaged_flir_file_is_named(tmp_path):
    pytest.importorskip("flyr")
    data = with_segments(jpeg(), [(0xE1, b"FLIR\0\x01\0\0" + b"FFF\0" + bytes(100))])
    with pytest.raises(UserError, match="a.jpg: not a readable radiometric JPEG of FLIR"):
        read_radiometric(data, tmp_path / "a.jpg")


def dji_file(raw):
    """A file of DJI's kind "girp": an 8-bit picture, raw values in segments APP3, parameters in APP4."""
    line = bytearray(0x10C)
    line[:2] = b"\xaa\x55"
    for offset, value in ((4, 70), (6, 50), (8, 100), (10, 230), (0xF8, 5000), (0x104, 1000)):
        struct.pack_into("<H", line, offset, value)
    raw = raw.astype("<i2").tobytes()
    parts = [(0xE3, raw[i : i + 60000]) for i in range(0, len(raw), 60000)]
    return with_segments(jpeg(), parts + [(0xE4, b"\xff\xd2\xd1\xffgirp".ljust(32, b"\0") + bytes(line))])


def test_dji_temperatures(tmp_path):
    pytest.importorskip("dji_thermal_cli")
    raw = np.linspace(6000, 9000, 640).round()[None].repeat(512, axis=0)
    values = read_radiometric(dji_file(raw), tmp_path / "a.jpg").values
    assert values.shape == (512, 640) and values.dtype == np.float32
    assert (np.diff(values[0]) >= 0).all() and -50 < values.min() < values.max() < 600
    assert (values == values[:1]).all() and np.ptp(values) > 10


def test_dji_pixels_without_a_temperature_have_none(tmp_path, monkeypatch):
    # A stand-in for the package: DJI's floor is -273.15.
    sdk = SimpleNamespace(measure_temperature_c=lambda: np.array([[21.5, -273.15], [np.nan, -12.0]], np.float32))
    monkeypatch.setitem(sys.modules, "dji_thermal_cli", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "dji_thermal_cli.tsdk", SimpleNamespace(open=lambda data: sdk))
    found = read_radiometric(dji_file(np.zeros(16)), tmp_path / "a.jpg")
    np.testing.assert_array_equal(found.values, [[21.5, np.nan], [np.nan, -12.0]])
    assert found.visible is None


@pytest.mark.parametrize("model", ["ZH20T", "XT S", "MAVIC2-ENTERPRISE-ADVANCED"])
def test_older_dji_cameras_are_known_by_their_model(tmp_path, monkeypatch, model):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0110] = model
    Image.new("RGB", (8, 6)).save(buffer, "JPEG", exif=exif)
    monkeypatch.setitem(sys.modules, "dji_thermal_cli.tsdk", None)
    assert read_radiometric(buffer.getvalue(), tmp_path / "photograph.jpg") is None
    with pytest.raises(UserError, match="a.jpg: a radiometric JPEG of DJI"):
        read_radiometric(with_segments(buffer.getvalue(), [(0xE3, bytes(16))]), tmp_path / "a.jpg")


@pytest.mark.parametrize("kind, package", [("FLIR", "flyr"), ("DJI", "dji_thermal_cli.tsdk")])
def test_without_the_package_a_line_says_how_to_install_it(tmp_path, monkeypatch, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    data = flir_file(COUNTS) if kind == "FLIR" else dji_file(np.zeros(16))
    with pytest.raises(UserError, match=f"a.jpg: .*{kind}; .*pip install .*requirements-cameras.txt"):
        read_radiometric(data, tmp_path / "a.jpg")


def test_other_files_are_not_radiometric(tmp_path):
    assert read_radiometric(jpeg(), tmp_path / "a.jpg") is None and not is_flir(jpeg())
    assert read_radiometric(b"\x89PNG\r\n\x1a\n", tmp_path / "a.png") is None
    assert read_radiometric(b"\xff\xd8\xff", tmp_path / "a.jpg") is None
    assert is_flir(flir_file(COUNTS))
