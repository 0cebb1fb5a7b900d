"""Radiometric JPEGs: a picture of a thermal camera that carries the measurements, read by optional packages.

FLIR: segments APP1 that begin with "FLIR", read by ``flyr``; many also hold the photograph of the visible camera.
DJI: raw values in segments APP3, read by ``dji-thermal-cli`` (Python 3.12 or newer).
"""

import importlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from utils.errors import MissingPackage, UserError
from utils.files.decode import orientation, upright

_APP1, _APP3, _APP4, _SCAN = 0xE1, 0xE3, 0xE4, 0xDA
_DJI_HEADER = b"\xff\xd2\xd1\xff"  # of the segment APP4
_DJI_MODELS = (b"ZH20T\0", b"XT S\0", b"MAVIC2-ENTERPRISE-ADVANCED\0")  # whose files have no such header
_ABSOLUTE_ZERO = -273.0  # the floor by which DJI's SDK says that a pixel has no temperature


@dataclass
class Radiometric:
    """``values`` ``(h, w)`` float32, degrees Celsius, NaN where there is none; ``visible`` ``(H, W, 1 or 3)`` uint8."""

    values: np.ndarray
    visible: np.ndarray | None = None


def read_radiometric(data: bytes, path: Path) -> Radiometric | None:
    """Read the content ``data`` of ``path`` if it is a radiometric JPEG, upright by its EXIF orientation; else None.

    Raises MissingPackage, a UserError, if the package that reads it is not installed, UserError if it cannot read it.
    """
    kind = _kind(data)
    if kind is None:
        return None
    read = {"FLIR": _flir, "DJI": _dji}[kind]
    try:
        found = read(data, path)
    except UserError:
        raise
    except Exception as error:  # both packages raise a dozen unrelated kinds for a damaged file
        raise UserError(f"{path}: not a readable radiometric JPEG of {kind} ({error})") from error
    turned = orientation(data, path)
    visible = None if found.visible is None else upright(found.visible, turned)
    return Radiometric(upright(found.values, turned), visible)


def is_flir(data: bytes) -> bool:
    """Tell whether ``data`` is a radiometric JPEG of FLIR, which may hold a visible photograph."""
    return _kind(data) == "FLIR"


def _kind(data: bytes) -> str | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    segments = list(_segments(data))
    if any(marker == _APP1 and content.startswith(b"FLIR\0") for marker, content in segments):
        return "FLIR"
    has_raw = any(marker == _APP3 for marker, _ in segments)
    headed = any(marker == _APP4 and content.startswith(_DJI_HEADER) for marker, content in segments)
    exif = b"".join(content for marker, content in segments if marker == _APP1 and content.startswith(b"Exif\0"))
    return "DJI" if headed or (has_raw and any(model in exif for model in _DJI_MODELS)) else None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of the segments before the first scan."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != _SCAN:
        if data[position + 1] == 0xFF:  # a fill byte
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield data[position + 1], data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def _package(name: str, distribution: str, path: Path, kind: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise MissingPackage(
            f"{path}: a radiometric JPEG of {kind}; to read it: pip install {distribution} (requirements-cameras.txt)"
        ) from None


def _flir(data: bytes, path: Path) -> Radiometric:
    thermogram = _package("flyr", "flyr", path, "FLIR").unpack(io.BytesIO(data))
    values = np.asarray(thermogram.celsius, dtype=np.float32)
    if thermogram.optical is None:
        return Radiometric(values)
    return Radiometric(values, np.atleast_3d(thermogram.optical)[:, :, :3])


def _dji(data: bytes, path: Path) -> Radiometric:
    sdk = _package("dji_thermal_cli.tsdk", "dji-thermal-cli (Python 3.12 or newer)", path, "DJI")
    values = np.array(sdk.open(data).measure_temperature_c(), dtype=np.float32)
    values[values <= _ABSOLUTE_ZERO] = np.nan
    return Radiometric(values)
