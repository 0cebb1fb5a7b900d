"""Write measured values: a float32 TIFF of one channel, NaN where there is none."""

from pathlib import Path

import cv2
from torch import Tensor

from utils.files.writing import write_bytes


def write_values(path: str | Path, values: Tensor) -> None:
    """Write ``values`` ``(1, H, W)`` as they are, losslessly compressed, atomically."""
    ok, data = cv2.imencode(".tiff", values[0].float().cpu().numpy())
    assert ok, "OpenCV encodes every float32 image of one channel"
    write_bytes(path, data.tobytes())
