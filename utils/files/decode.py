"""Decode image files to the pixels that they store: any depth, one page of several, upright by their EXIF orientation.

PNG, JPEG, BMP, WebP, JPEG 2000, PGM, PPM and GIF of 8 and 16 bit; TIFF also of signed and 32-bit integers and of
floats; NumPy's ``.npy``.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

from utils.errors import UserError
from utils.files import tiff
from utils.files.complete import missing

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".pgm", ".ppm", ".gif")
THERMAL_EXTENSIONS = (*EXTENSIONS, ".npy")  # what a thermal file may have

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GIF = b"GIF8"
_NPY = b"\x93NUMPY"
_ORIENTATION, _GDAL_NODATA = 0x0112, 42113  # EXIF and TIFF tag; the tag of GDAL's TIFFs


@dataclass
class Pixels:
    """The pixels ``array`` ``(H, W, C)`` of a file, C = 1 (gray) or 3 (RGB), in the file's own type and values.

    ``pages``: how many images the file holds; ``no_data``: the value by which it says that a pixel has none, or None;
    ``fourth`` ``(H, W, 1)``: the channel after RGB, or None.
    """

    array: np.ndarray
    pages: int = 1
    no_data: float | None = None
    fourth: np.ndarray | None = None


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
    header = _header(data, path)
    array = _decode(data, 0)
    if array is None:
        raise UserError(f"{path}: not a readable image ({_refused(data)})")
    pages = _count_pages(data, header)
    if index := _page_index(path, page, pages):
        array = _decode(data, index)
        if array is None:
            raise UserError(f"{path}: page {page} is not readable (damaged)")
    if array.ndim == 2:
        array = array[:, :, None]
    fourth = array[:, :, 3:] if array.shape[2] == 4 else None
    array = array[:, :, 2::-1] if array.shape[2] >= 3 else array[:, :, :1]
    if header is None or data.startswith(_TIFF):  # OpenCV turns a TIFF upright itself
        return Pixels(array, pages, _no_data(header), fourth)
    turn = header.getexif().get(_ORIENTATION, 1)
    return Pixels(upright(array, turn), pages, fourth=None if fourth is None else upright(fourth, turn))


def _refused(data: bytes) -> str:
    """Say why OpenCV does not decode a file."""
    found = tiff.describe(data) if data.startswith(_TIFF) else None
    if found is None:
        return f"damaged, or not {', '.join(name[1:] for name in EXTENSIONS)} or npy"
    return f"damaged, or its pixels are of a kind that is not: {found}; 1 to 4 bands of 8, 16 or 32 bits are"


def orientation(data: bytes, path: Path) -> int:
    """Return the EXIF orientation 1 .. 8 of the content ``data`` of ``path``; 1, upright, if it has none."""
    header = _header(data, path)
    return 1 if header is None else header.getexif().get(_ORIENTATION, 1)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels ``(H, W, ...)`` upright by their EXIF ``orientation``, 1 .. 8 (CIPA DC-008, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return array[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _header(data: bytes, path: Path) -> Image.Image | None:
    """Open the file for its tags and its number of pages, without decoding it; None if Pillow cannot.

    Pillow does not know 64-bit floats, which OpenCV decodes. Raises UserError for more pixels than Pillow's limit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of half the limit, and of what OpenCV reports as damage
            return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise UserError(f"{path}: has more than {limit} million pixels; reduce it") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None


def _count_pages(data: bytes, header: Image.Image | None) -> int:
    """Count the pages of a TIFF or GIF; others have one, though a JPEG may bring previews that Pillow counts."""
    if isinstance(header, GifImageFile):
        return header.n_frames
    if not data.startswith(_TIFF):
        return 1
    if header is None:  # 64-bit floats, or two bands of 16 bit
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
    if data.startswith(_TIFF) and (gray := tiff.first_of_two_bands(data, index)) is not None:
        return gray
    level = cv2.utils.logging.setLogLevel(0)
    buffer = np.frombuffer(data, np.uint8)
    try:
        if data.startswith(_GIF) and index:  # of which OpenCV ignores the range
            return cv2.imdecodemulti(buffer, cv2.IMREAD_UNCHANGED)[1][index]
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
    if array.dtype == np.float16:  # whose range the signs of missing pixels exceed
        array = array.astype(np.float32)
    if array.ndim == 2 or array.shape[2] in (1, 3):
        return Pixels(array.reshape(*array.shape[:2], -1))
    return Pixels(array[_page_index(path, page, len(array))][:, :, None], len(array))
