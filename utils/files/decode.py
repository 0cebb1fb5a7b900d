"""Decode image files to the pixels that they store: any depth, one page of several, upright by their EXIF orientation.

PNG, JPEG and BMP of 8 and 16 bit; TIFF also of signed and 32-bit integers and of floats; NumPy's ``.npy``.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from utils.errors import UserError
from utils.files.complete import missing

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
THERMAL_EXTENSIONS = (*EXTENSIONS, ".npy")  # what a thermal file may have

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY = b"\x93NUMPY"
_ORIENTATION, _GDAL_NODATA = 0x0112, 42113  # EXIF and TIFF tag; the tag of GDAL's TIFFs


@dataclass
class Pixels:
    """The pixels ``array`` ``(H, W, C)`` of a file, C = 1 (gray) or 3 (RGB), in the file's own type and values.

    ``pages``: how many images the file holds; ``no_data``: the value by which it says that a pixel has none, or None.
    """

    array: np.ndarray
    pages: int = 1
    no_data: float | None = None


def read_file(path: Path) -> bytes:
    """Read a file; raises UserError naming it if that is not possible."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def decode(data: bytes, path: Path, page: int | None = None) -> Pixels:
    """Decode the content ``data`` of the file ``path``; of several pages number ``page``, from 1 (default: the first).

    Alpha is dropped. Raises UserError naming the file if it is damaged or of another kind, or has several pages, but
    fewer than ``page``.
    """
    if data.startswith(_NPY):
        return _from_npy(data, path, page)
    # OpenCV fills the missing part of a truncated file with gray.
    if problem := missing(data):
        raise UserError(f"{path}: not a readable image ({problem})")
    array = _decode(data, 0)
    if array is None:
        raise UserError(f"{path}: not a readable image (damaged, or not png, jpg, bmp, tif or npy)")
    header = _header(data)
    pages = _count_pages(data, header)
    if index := _page_index(path, page, pages):
        array = _decode(data, index)
        if array is None:
            raise UserError(f"{path}: page {page} is not readable (damaged)")
    if array.ndim == 2:
        array = array[:, :, None]
    array = array[:, :, 2::-1] if array.shape[2] >= 3 else array[:, :, :1]
    if header is None or data.startswith(_TIFF):  # OpenCV turns a TIFF upright itself
        return Pixels(array, pages, _no_data(header))
    return Pixels(upright(array, header.getexif().get(_ORIENTATION, 1)), pages)


def orientation(data: bytes) -> int:
    """Return the EXIF orientation 1 .. 8 of the image file ``data``; 1, upright, if it has none."""
    header = _header(data)
    return 1 if header is None else header.getexif().get(_ORIENTATION, 1)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels ``(H, W, ...)`` upright by their EXIF ``orientation``, 1 .. 8 (CIPA DC-008, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return array[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _header(data: bytes) -> Image.Image | None:
    """Open the file for its tags and its number of pages, without decoding it; None if Pillow cannot.

    Pillow does not know 64-bit floats, which OpenCV decodes.
    """
    try:
        return Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None


def _count_pages(data: bytes, header: Image.Image | None) -> int:
    """Count the pages of a TIFF; other files have one, though a JPEG may bring previews that Pillow counts."""
    if not data.startswith(_TIFF):
        return 1
    if header is None:  # 64-bit floats
        return len(cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[1])
    return header.n_frames


def _no_data(header: Image.Image | None) -> float | None:
    """Return the value of GDAL's tag, which holds a number as text."""
    text = str(header.tag_v2.get(_GDAL_NODATA, "")) if isinstance(header, TiffImageFile) else ""
    try:
        return float(text.strip("\0 "))
    except ValueError:
        return None


def _page_index(path: Path, page: int | None, pages: int) -> int:
    if page is None or pages == 1:
        return 0
    if page > pages:
        raise UserError(f"{path}: has {pages} pages, no page {page}; choose another --page")
    return page - 1


def _decode(data: bytes, index: int) -> np.ndarray | None:
    if not data:
        return None
    level = cv2.utils.logging.setLogLevel(0)
    buffer = np.frombuffer(data, np.uint8)
    try:
        if index:
            found, arrays = cv2.imdecodemulti(buffer, cv2.IMREAD_UNCHANGED, range=(index, index + 1))
            return arrays[0] if found else None
        # IMREAD_UNCHANGED keeps alpha and depth; a JPEG has neither.
        if data.startswith(b"\xff\xd8"):
            return cv2.imdecode(buffer, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
        return cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def _from_npy(data: bytes, path: Path, page: int | None) -> Pixels:
    """Take ``(H, W)``, ``(H, W, 1 or 3)``, ``(1, H, W)``, or pages ``(N, H, W)``."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not a readable .npy file ({error})") from error
    if array.dtype.kind not in "iuf" or array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(f"{path}: holds {array.dtype} of shape {array.shape}; an image is (H, W) of numbers")
    if array.ndim == 2 or array.shape[2] in (1, 3):
        return Pixels(array.reshape(*array.shape[:2], -1))
    return Pixels(array[_page_index(path, page, len(array))][:, :, None], len(array))
