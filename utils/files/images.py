"""Image files: read png, jpg, bmp and tif of 8 or 16 bit as float32 in [0, 1]; write 8-bit PNGs atomically."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.complete import missing
from utils.files.writing import write_bytes

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

# A thermal sensor uses a small part of its 16-bit range; these percentiles of an image are mapped to 0 and 1.
STRETCH = (0.5, 99.5)


def read_image(path: str | Path, stretch: bool = False) -> Tensor:
    """Read an image file as float32 ``(C, H, W)`` in [0, 1], C = 1 (gray) or 3 (RGB); alpha is dropped.

    8-bit files are divided by 255. 16-bit files are divided by 65535, or, with ``stretch`` (for thermal cameras),
    mapped linearly in float32 so that their 0.5 and 99.5 percentiles become 0 and 1; they are never reduced to
    8 bit. Float files are always stretched. Raises UserError naming the file if it is missing, damaged or of
    another kind.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    # OpenCV fills the missing part of a truncated file with gray.
    if problem := missing(data):
        raise UserError(f"{path}: not a readable image ({problem})")
    pixels = _decode(data)
    if pixels is None:
        raise UserError(f"{path}: not a readable image (damaged, or not png, jpg, bmp or tif)")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 2:
        pixels = pixels[:, :, :1]
    if pixels.shape[2] >= 3:
        pixels = pixels[:, :, 2::-1]
    values = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    if pixels.dtype == np.uint8:
        values /= 255
    elif pixels.dtype == np.uint16 and not stretch:
        values /= 65535
    elif pixels.dtype in (np.uint16, np.float32, np.float64):
        values = _stretch(values, path)
    else:
        raise UserError(f"{path}: pixels of type {pixels.dtype}; convert it to 8 or 16 bit")
    return torch.from_numpy(values)


def _decode(data: bytes) -> np.ndarray | None:
    if not data:
        return None
    level = cv2.utils.logging.setLogLevel(0)
    try:
        # IMREAD_UNCHANGED keeps alpha and depth but ignores the EXIF orientation of a JPEG.
        jpeg = data.startswith(b"\xff\xd8")
        flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if jpeg else cv2.IMREAD_UNCHANGED
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def _stretch(values: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds values that are not finite numbers")
    low, high = np.percentile(values, STRETCH)
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def write_image(path: str | Path, image: Tensor) -> None:
    """Write ``image`` ``(C, H, W)`` in [0, 1], C = 1 or 3 (RGB), as an 8-bit PNG, rounded, atomically."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    ok, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))
    assert ok, "OpenCV encodes every 8-bit image of 1 or 3 channels"
    write_bytes(path, data.tobytes())
