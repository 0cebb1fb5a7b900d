"""Thermal (IR) files as measurements: their original values, what these are, and what to tell the user.

Nothing is stretched here; :mod:`utils.files.stretch` makes images in [0, 1] of the values.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.decode import Pixels, decode, read_file
from utils.files.false_colour import to_scalar
from utils.files.no_data import missing_pixels
from utils.files.radiometric import read_radiometric

# What the values of a file are.
COUNTS = "counts"  # integers of more than 8 bits, as the sensor gave them
CELSIUS = "degrees Celsius"  # from a radiometric JPEG
FLOATS = "values as stored"  # floats, whose unit the file does not tell
GRAY = "8-bit gray"  # 0 .. 255, a picture whose relation to temperature is unknown
PALETTE = "place on the palette"  # 0 .. 255, of a false-colour picture
COLOUR = "8-bit colour"  # 0 .. 255, a colour picture that is taken as it is
PICTURES = (GRAY, PALETTE, COLOUR)  # the units that are no measurement

COLOURS = ("auto", "keep")

# A gray picture that was stored in colours, as JPEGs are, has a little of them: mean difference of its channels.
_GRAY_CHROMA = 4
_LUMINANCE = (0.299, 0.587, 0.114)  # of R, G and B, as in utils/colour.py


@dataclass
class Thermal:
    """The content of a thermal file: ``values`` ``(1 or 3, h, w)`` float32, unchanged, NaN where a pixel has none.

    3 channels (RGB) only for a picture of ``unit`` :data:`COLOUR`. ``notes``: lines to tell the user, the same for all
    files of a kind, to be printed after the file's name. ``has_visible``: whether the file, radiometric or RGB-T, also
    holds the visible image (:class:`utils.files.images.VisibleReader`).
    """

    values: Tensor
    unit: str
    path: Path
    page: int = 1
    notes: list[str] = field(default_factory=list)
    has_visible: bool = False

    @property
    def measured(self) -> bool:
        """True if the values are measurements: hotter is more."""
        return self.unit not in PICTURES


def read_thermal(path: str | Path, page: int | None = None, colours: str = "auto", rgbt: bool = False) -> Thermal:
    """Read a thermal file to its original values.

    8-bit pictures; counts of 16 or 32 bit, also signed; floats; ``.npy``; radiometric JPEGs of FLIR and DJI, to degrees
    Celsius. ``page``: which one of a file of several (from 1; default: the first, with a note). ``colours``: "auto"
    turns a false-colour picture back into the scalar that it shows (:mod:`utils.files.false_colour`), "keep" does not.
    ``rgbt``: the thermal image is the file's fourth channel. Missing pixels (:mod:`utils.files.no_data`) become NaN,
    but none of an 8-bit picture, whose black may be cold. Raises UserError naming the file if it is missing, damaged,
    of another kind, or has no such page or channel, or a radiometric file's package is not installed.
    """
    path = Path(path)
    data = read_file(path)
    found = read_radiometric(data, path)
    if found is not None:
        values, notes = _measurements(found.values[:, :, None], None, path)
        return Thermal(values, CELSIUS, path, notes=notes, has_visible=found.visible is not None)
    pixels = decode(data, path, page)
    if rgbt and pixels.fourth is None:
        raise UserError(
            f"{path}: has no fourth channel; --rgbt takes files of RGB and thermal, for others --ir and --vi"
        )
    if rgbt:
        pixels.array = pixels.fourth
    return replace(thermal_of(pixels, path, page, colours), has_visible=rgbt)


def thermal_of(pixels: Pixels, path: Path, page: int | None = None, colours: str = "auto") -> Thermal:
    """Take the ``pixels`` of the file ``path``, or of a frame of a video, as :func:`read_thermal` does."""
    if pixels.array.dtype == np.uint8:
        values, unit, notes = _picture(pixels.array, colours)
    else:
        values, notes = _measurements(pixels.array, pixels.no_data, path)
        unit = FLOATS if pixels.array.dtype.kind == "f" else COUNTS
    several = pixels.pages > 1
    if several and page is None:
        notes.append("IR has several pages, the first is taken; --page N takes another")
    return Thermal(values, unit, path, (page or 1) if several else 1, notes)


def _picture(array: np.ndarray, colours: str) -> tuple[Tensor, str, list[str]]:
    """Return values, unit and notes of an 8-bit picture ``(h, w, 1 or 3)``."""
    if array.shape[2] == 1 or (array == array[:, :, :1]).all():
        return _tensor(array[:, :, :1]), GRAY, []
    if np.ptp(array, axis=2).mean() < _GRAY_CHROMA:
        return _tensor((array @ np.array(_LUMINANCE, np.float32))[:, :, None]), GRAY, []
    scalar = to_scalar(array) if colours == "auto" else None
    if scalar is None:
        return _tensor(array), COLOUR, []
    note = f"IR is in false colours ({scalar.palette}), turned back into one value; --thermal_colours keep does not"
    return _tensor(scalar.values[:, :, None]), PALETTE, [note]


def _measurements(array: np.ndarray, no_data: float | None, path: Path) -> tuple[Tensor, list[str]]:
    """Return the values of measurements ``(h, w, 1)``, NaN where there are none, and notes."""
    if array.shape[2] != 1 and not (array == array[:, :, :1]).all():
        raise UserError(f"{path}: a colour image of {array.dtype}; a thermal image has one channel, or 8 bits")
    absent = missing_pixels(array[:, :, 0], no_data)
    if absent.all():
        raise UserError(f"{path}: holds no valid pixel (all are NaN, infinite or no-data values)")
    values = _tensor(array[:, :, :1])
    if not absent.any():
        return values, []
    values[:, torch.from_numpy(absent)] = torch.nan
    return values, [
        "IR has missing pixels (NaN, infinite, no-data values, dead, telemetry, or a black frame), left out"
    ]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)).astype(np.float32))
