"""Visible and result images: read files as float32 in [0, 1], write 8-bit PNGs atomically. IR: ``infrared.py``."""

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


def read_image(path: str | Path) -> Tensor:
    """Read an image file as float32 ``(C, H, W)`` in [0, 1], C = 1 (gray) or 3 (RGB), upright; alpha is dropped.

    8-bit files are divided by 255, 16-bit ones by 65535, never reduced to 8 bit; float files, which have no range of
    their own, are stretched between their percentiles 0.5 and 99.5. Of several pages the first is read. Raises
    UserError naming the file if it is missing, damaged or of another kind.
    """
    path = Path(path)
    return _in_range(decode(read_file(path), path), path)


def read_visible(path: str | Path, page: int | None = None) -> tuple[Tensor, list[str]]:
    """Read a visible image as :func:`read_image` does, with lines to tell the user, to be printed after its name.

    Of a FLIR radiometric JPEG it is the photograph that lies beside the temperatures. ``page``: which one of several
    (from 1; default: the first, with a line).
    """
    path = Path(path)
    data = read_file(path)
    if is_flir(data):
        photograph = read_radiometric(data, path).visible
        if photograph is None:
            raise UserError(f"{path}: a radiometric JPEG without a visible photograph in it; give another --vi")
        return _in_range(Pixels(photograph), path), ["VI is the photograph in the radiometric file"]
    pixels = decode(data, path, page)
    several = pixels.pages > 1 and page is None
    lines = ["VI has several pages, the first is taken; --page N takes another"] if several else []
    return _in_range(pixels, path), lines


def _in_range(pixels: Pixels, path: Path) -> Tensor:
    kind = pixels.array.dtype
    values = np.ascontiguousarray(pixels.array.transpose(2, 0, 1)).astype(np.float32)
    if kind in (np.uint8, np.uint16):
        values /= np.iinfo(kind).max
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
