"""Visible and result images: read files as float32 in [0, 1], write 8-bit PNGs atomically. IR: ``infrared.py``."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.decode import Pixels, decode, read_file
from utils.files.radiometric import is_flir, read_radiometric
from utils.files.stretch import PERCENTILES
from utils.files.writing import write_bytes

# The bits that a 16-bit file may really hold. A picture reaches the upper tenth of its range; a dark one of 16 bits
# rarely ends just there.
BITS = (8, 10, 12, 14)
_REACHED = 0.9
_HOT_PIXELS = 1e-4  # share of the pixels that are not counted
_SET_FILES = 8  # at most, by which a set is judged
_OVERSHOOT = 0.5  # floats further outside [0, 1] have another range
# Transparency is mostly all or nothing, and has few levels; a picture is not.
_EXTREMES, _LEVELS = 0.5, 32
FOURTH = "VI has a fourth channel that looks like a picture; if it is the thermal one (RGB-T), give the files as --rgbt"


def read_image(path: str | Path) -> Tensor:
    """Read an image file as float32 ``(C, H, W)`` in [0, 1], C = 1 (gray) or 3 (RGB), upright; alpha is dropped.

    8-bit files are divided by 255, 16-bit ones by 65535, never reduced to 8 bit; float files, which have no range of
    their own, are stretched between their percentiles 0.5 and 99.5. Of several pages the first is read. Raises
    UserError naming the file if it is missing, damaged or of another kind.
    """
    path = Path(path)
    return _in_range(decode(read_file(path), path), path)


def read_result(path: str | Path) -> tuple[Tensor, list[str]]:
    """Read a method's result as :func:`read_image` does, but floats as they are; with lines to tell the user.

    Floats a little outside [0, 1] are clipped, with a line. Raises UserError naming the file if they lie far outside.
    """
    path = Path(path)
    pixels = decode(read_file(path), path)
    if pixels.array.dtype.kind != "f":
        return _in_range(pixels, path), []
    values = np.ascontiguousarray(pixels.array.transpose(2, 0, 1)).astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds values that are not finite numbers")
    low, high = values.min(), values.max()
    if not (-_OVERSHOOT <= low and high <= 1 + _OVERSHOOT):
        raise UserError(f"{path}: holds floats from {low:g} to {high:g}; those of a result lie in [0, 1], scale them")
    lines = [] if 0 <= low and high <= 1 else ["floats leave [0, 1] and are clipped"]
    return torch.from_numpy(values.clip(0, 1)), lines


class VisibleReader:
    """Read the visible ``files`` of one set, which one camera took, as :func:`read_image` does.

    ``page``: which one of several (from 1; default: the first, with a line). ``bits``: how many of its 16 bits a file
    uses; by default as many as the set reaches (8, 10, 12 or 14), with a line. Of a FLIR radiometric JPEG it is the
    photograph that lies beside the temperatures. With ``rgbt`` files have a fourth channel.
    """

    def __init__(self, files: Sequence[Path], page: int | None = None, bits: int | None = None, rgbt: bool = False):
        self.files, self.page, self.bits, self.rgbt = list(files), page, bits, rgbt

    def read(self, path: str | Path) -> tuple[Tensor, list[str]]:
        """Read one of the files; with lines to tell the user, to be printed after its name."""
        path = Path(path)
        data = read_file(path)
        if is_flir(data):
            photograph = read_radiometric(data, path).visible
            if photograph is None:
                raise UserError(f"{path}: a radiometric JPEG without a visible photograph in it; give another --vi")
            return _in_range(Pixels(photograph), path), ["VI is the photograph in the radiometric file"]
        pixels = decode(data, path, self.page)
        lines = []
        if pixels.pages > 1 and self.page is None:
            lines.append("VI has several pages, the first is taken; --page N takes another")
        if pixels.fourth is not None and not self.rgbt and _is_picture(pixels.fourth):
            lines.append(FOURTH)
        bits = 16
        if pixels.array.dtype == np.uint16:
            bits = self.bits or self._used_bits or 16
            if self.bits is None and self._used_bits is None and _brightest(pixels.array) < 2 ** BITS[-1]:
                lines.append("VI is dark, far below its 16 bits; if it holds fewer, --vi_bits says how many")
            elif self.bits is None and bits < 16:
                lines.append(f"VI holds {bits} bits in a 16-bit file and is read so; --vi_bits 16 takes it as it is")
        return _in_range(pixels, path, bits), lines

    @cached_property
    def _used_bits(self) -> int | None:
        """The bits of the set's 16-bit files if they are fewer than 16, judged by the brightest."""
        brightest = 0
        for index in np.linspace(0, len(self.files) - 1, min(_SET_FILES, len(self.files))).round().astype(int):
            try:
                pixels = decode(read_file(self.files[index]), self.files[index], self.page)
            except UserError:  # named when its turn comes
                continue
            if pixels.array.dtype == np.uint16:
                brightest = max(brightest, _brightest(pixels.array))
        return next((bits for bits in BITS if _REACHED * 2**bits <= brightest < 2**bits), None)


def read_visible(path: str | Path, page: int | None = None, bits: int | None = None) -> tuple[Tensor, list[str]]:
    """Read a single visible file as :class:`VisibleReader` does, with lines to tell the user."""
    return VisibleReader([Path(path)], page, bits).read(path)


def _brightest(array: np.ndarray) -> int:
    """Return the largest value but for a few hot pixels."""
    values = array.ravel()
    rank = len(values) - 1 - int(np.ceil(_HOT_PIXELS * len(values)))
    return int(np.partition(values, rank)[rank])


def _is_picture(fourth: np.ndarray) -> bool:
    """Tell whether a fourth channel is a picture rather than transparency."""
    if fourth.dtype.kind != "u":
        return False
    extremes = (fourth == 0) | (fourth == np.iinfo(fourth.dtype).max)
    return extremes.mean() < _EXTREMES and len(np.unique(fourth)) > _LEVELS


def _in_range(pixels: Pixels, path: Path, bits: int = 16) -> Tensor:
    kind = pixels.array.dtype
    values = np.ascontiguousarray(pixels.array.transpose(2, 0, 1)).astype(np.float32)
    if kind == np.uint8:
        values /= 255
    elif kind == np.uint16:
        values = np.minimum(values / (2**bits - 1), 1)
    elif kind.kind != "f":
        raise UserError(f"{path}: pixels of type {kind}; convert it to 8 or 16 bit")
    elif not np.isfinite(values).all():
        raise UserError(f"{path}: holds values that are not finite numbers; only a thermal image (--ir) may")
    else:
        low, high = np.percentile(values, PERCENTILES)
        values = np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return torch.from_numpy(values)


def write_image(path: str | Path, image: Tensor) -> None:
    """Write ``image`` ``(C, H, W)`` in [0, 1], C = 1 or 3 (RGB), as an 8-bit PNG, rounded, atomically."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    ok, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))
    assert ok, "OpenCV encodes every 8-bit image of 1 or 3 channels"
    write_bytes(path, data.tobytes())
