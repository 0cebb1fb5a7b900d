"""Find the pixels of a measurement that hold none: NaN, infinite, no-data values, dead pixels, telemetry, black frames.

A value is taken for a sign of "no data" only where it lies far from everything else in the image, so that a saturated
flame or a frosty 0 degrees stay what they are.
"""

import cv2
import numpy as np

# Values that programs and sensors write where they have none, beside the ends of an integer's range and its 0.
_SIGNS = (-9999.0, -99999.0, -32768.0, -32767.0, 65535.0, -999.0)
_HUGE = 1e30  # floats beyond are a program's largest or smallest number
_GAP = 0.5  # how far a sign lies from all other values, relative to their spread
_PERCENTILES = (0.5, 99.5)
# The black frame of an earlier warp, or a sensor's border: connected zeros at the image's border.
_FRAME_PIXELS = 16
_NEAR, _FEW = 0.02, 0.1  # few other pixels lie as near to 0 as this share of the spread
_REPEATS = 10  # no other value repeats that often
# Dead pixels and telemetry rows have values beyond all others by more than the spread of most. They matter where they
# are more than a stretch forgives; fewer may as well be small hot things.
_MOST = (5, 95)  # percentiles
_FORGIVEN = 0.0025  # share of the pixels
_DEAD_PIXELS = 8  # the largest group of dead pixels that touch
_LINE = 2  # rows or columns of a dead line
_TELEMETRY_ROWS, _TELEMETRY = 4, 0.5  # at most, at either edge; share of a row that is beyond, or 0


def missing_pixels(values: np.ndarray, no_data: float | None = None) -> np.ndarray:
    """Mark the pixels of ``values`` ``(h, w)``, of any type, that hold no measurement: ``(h, w)`` bool.

    ``no_data``: a value by which the file itself says so.
    """
    absent = ~np.isfinite(values)
    if values.dtype.kind == "f":
        absent |= np.abs(values, where=~absent, out=np.zeros_like(values)) > _HUGE
    if no_data is not None:
        absent |= values == np.asarray(no_data).astype(values.dtype)
    signs = set(_SIGNS)
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        signs |= {float(limits.min), float(limits.max), 0.0}
    for sign in sorted(signs):
        absent |= _isolated(values, absent, sign)
    absent |= black_frame(values, absent)
    absent |= _telemetry(values, absent)
    return absent | _dead(values, absent)


def _beyond(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Mark the values that lie beyond most others by more than their spread."""
    present = values[~absent].astype(np.float64)
    if not present.size:
        return np.zeros_like(absent)
    low, high = np.percentile(present, _MOST)
    if low == high:
        return np.zeros_like(absent)
    return ~absent & ((values < 2 * low - high) | (values > 2 * high - low))


def _telemetry(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Mark the rows at the upper and lower edge that hold numbers about the frame, as FLIR's cores write them."""
    rows = np.zeros_like(absent)
    if len(values) < 4 * _TELEMETRY_ROWS:
        return rows
    beyond = _beyond(values, absent)
    odd = (beyond | absent).mean(axis=1) > _TELEMETRY
    for edge in (slice(None), slice(None, None, -1)):
        count = int(np.argmin(odd[edge]))
        # Without numbers it is a black frame; a hot thing at the edge reaches further.
        if 0 < count <= _TELEMETRY_ROWS and beyond[edge][:count].any():
            rows[edge][:count] = True
    return rows


def _dead(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Mark single pixels, small groups and whole lines of values far beyond the others, if they are many."""
    beyond = _beyond(values, absent)
    _, labels, found, _ = cv2.connectedComponentsWithStats(beyond.astype(np.uint8), connectivity=8)
    sides = found[:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]]
    line = (sides == values.shape).any(axis=1) & (sides.min(axis=1) <= _LINE)
    dead = (found[:, cv2.CC_STAT_AREA] <= _DEAD_PIXELS) | line
    dead[0] = False  # all that is not beyond
    marked = dead[labels]
    return marked if marked.mean() > _FORGIVEN else np.zeros_like(marked)


def _isolated(values: np.ndarray, absent: np.ndarray, sign: float) -> np.ndarray:
    """Mark the pixels equal to ``sign`` if all others lie far from it."""
    equal = (values == sign) & ~absent
    if not equal.any():
        return equal
    others = values[~equal & ~absent].astype(np.float64)
    if not others.size:
        return np.zeros_like(equal)
    low, high = np.percentile(others, _PERCENTILES)
    gap = np.abs(others - sign).min()
    return equal & (gap > max(_GAP * (high - low), 1))


def _blended(values: np.ndarray, absent: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Mark the pixels beside the ``frame`` between 0 and all other values: an interpolating warp mixed them."""
    beside = cv2.dilate(frame.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~frame & ~absent
    inside = values[~frame & ~absent & ~beside].astype(np.float64)
    if not inside.size:
        return np.zeros_like(frame)
    low, high = np.percentile(inside, _PERCENTILES)
    return beside & ((values < low) if low > 0 else (values > high) if high < 0 else False)


def black_frame(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Mark connected zeros of ``values`` ``(h, w)`` that touch the border, if they stand out from the other values.

    ``absent`` ``(h, w)`` bool marks pixels that are missing anyway.
    """
    zero = (values == 0) & ~absent
    nothing = np.zeros_like(zero)
    # Missing pixels between the zeros and the border belong to the frame.
    _, labels = cv2.connectedComponents((zero | absent).astype(np.uint8))
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    frame = np.isin(labels, border[border > 0]) & zero
    others = values[~frame & ~absent].astype(np.float64)
    if frame.sum() < _FRAME_PIXELS or not others.size:
        return nothing
    low, high = np.percentile(others, _PERCENTILES)
    near = np.count_nonzero(np.abs(others) <= _NEAR * (high - low))
    if near <= _FEW * frame.sum():
        return frame | _blended(values, absent, frame)
    # In the midst of the other values, as 0 degrees may be.
    repeats = np.unique(others, return_counts=True)[1].max()
    return frame if others.min() < 0 < others.max() and frame.sum() > _REPEATS * repeats else nothing
