"""Stretch the values of thermal files to images in [0, 1].

Measurements are mapped linearly so that a low and a high value become 0 and 1, what lies beyond is clipped; they are
never reduced to 8 bit on the way. An 8-bit picture is divided by 255, unless a range is given. Missing pixels do not
enter.
"""

import argparse
from collections.abc import Iterable

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor

from utils.files.no_data import black_frame
from utils.files.thermal import Thermal

# A thermal sensor uses a small part of its range; these percentiles are mapped to 0 and 1.
PERCENTILES = (0.5, 99.5)
_OF_EACH = 20000  # values of each file of a set
_SMALLEST_RANGE = 1e-6

Range = tuple[float, float]


def stretch_argument(text: str) -> str | Range:
    """Parse ``pair``, ``set`` or ``LOW,HIGH``, two numbers in the files' own unit (the type of ``--stretch``)."""
    if text in ("pair", "set"):
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high < float("inf") or low == float("-inf"):
        raise argparse.ArgumentTypeError(f"{text}: write pair, set, or LOW,HIGH such as 7000,8200 (--stretch=-5,40)")
    return low, high


def range_of(thermals: Iterable[Thermal]) -> Range:
    """Return the percentiles of the values of one file, or of several together; (0, 255) if they are pictures."""
    parts = []
    for thermal in thermals:
        if not thermal.measured:
            return 0.0, 255.0
        values = thermal.values[torch.isfinite(thermal.values)].numpy()
        parts.append(values)
    if len(parts) > 1:  # files of any size count alike
        parts = [values[np.linspace(0, len(values) - 1, _OF_EACH).astype(int)] for values in parts]
    low, high = np.percentile(np.concatenate(parts), PERCENTILES)
    return float(low), float(high)


def to_image(thermal: Thermal, low: float, high: float, black_hot: bool = False) -> tuple[Tensor, Tensor | None]:
    """Map ``low`` and ``high`` to 0 and 1, or with ``black_hot`` to 1 and 0.

    Returns the image ``(1 or 3, h, w)`` in [0, 1] and the mask ``(1, h, w)`` bool of its missing pixels, None if there
    are none. What is missing at the edge of the frame is 0, as outside a warp; inside it has the nearest pixel's value,
    so that a hole does not look like an edge.
    """
    values = thermal.values
    missing = ~torch.isfinite(values).all(dim=0)
    image = ((values - low) / max(high - low, _SMALLEST_RANGE)).clamp(0, 1)
    if black_hot:
        frame = black_frame(values[0].numpy(), missing.numpy())  # not hot
        image = (1 - image).masked_fill(torch.from_numpy(frame), 0)
    if not missing.any():
        return image, None
    holes = missing.numpy()
    rows, columns = distance_transform_edt(holes, return_distances=False, return_indices=True)
    image = image[:, torch.from_numpy(rows), torch.from_numpy(columns)]
    regions, _ = label(holes, np.ones((3, 3)))
    at_edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    image[:, torch.from_numpy(np.isin(regions, at_edge[at_edge > 0]))] = 0
    return image, missing[None]
