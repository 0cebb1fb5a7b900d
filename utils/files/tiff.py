"""What OpenCV and Pillow do not read of a TIFF: two bands of full depth, and what the pixels of a refused file are.

Tags as in TIFF 6.0 (Adobe, 1992).
"""

import struct

import cv2
import numpy as np

_WIDTH, _BITS, _SAMPLES, _PLANES, _PREDICTOR = 256, 258, 277, 284, 317
_TILE_WIDTH, _EXTRA, _FORMAT = 322, 338, 339
_NUMBERS = {3: "H", 4: "I"}  # the types of tags that are read here, SHORT and LONG
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex", 6: "complex"}


class Directory:
    """The tags of page ``index`` of the TIFF ``data`` (not BigTIFF); raises ValueError if there is none."""

    def __init__(self, data: bytes, index: int = 0):
        self.data = data
        self.order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
        if self.order is None:
            raise ValueError("not a classic TIFF")
        try:
            start = self._number("I", 4)
            for _ in range(index):
                start = self._number("I", start + 2 + 12 * self._number("H", start))
            count = self._number("H", start)
            entries = [data[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
            self.entries = {struct.unpack(self.order + "H", entry[:2])[0]: entry for entry in entries}
        except struct.error:
            raise ValueError("damaged") from None

    def get(self, tag: int, default: int) -> int:
        """Return the first number of a tag."""
        entry = self.entries.get(tag)
        if entry is None:
            return default
        kind, count = struct.unpack(self.order + "HI", entry[2:8])
        if kind not in _NUMBERS:
            return default
        letter = _NUMBERS[kind]
        if count * struct.calcsize(letter) <= 4:
            return struct.unpack(self.order + letter, entry[8 : 8 + struct.calcsize(letter)])[0]
        return self._number(letter, struct.unpack(self.order + "I", entry[8:])[0])

    def describe(self) -> str:
        """Say what the pixels are: "5 bands of uint16"."""
        bands, bits = self.get(_SAMPLES, 1), self.get(_BITS, 1)
        kind = _KINDS.get(self.get(_FORMAT, 1), "unknown")
        return f"{bands} band{'s' if bands > 1 else ''} of {kind}{bits}"

    def _number(self, letter: str, position: int) -> int:
        return struct.unpack_from(self.order + letter, self.data, position)[0]


def describe(data: bytes, index: int = 0) -> str | None:
    """Say what the pixels of a TIFF are, such as "5 bands of uint16"; None if it cannot be told."""
    try:
        return Directory(data, index).describe()
    except (ValueError, struct.error):
        return None


def first_of_two_bands(data: bytes, index: int = 0) -> np.ndarray | None:
    """Decode the first band ``(H, W)`` uint8 or uint16 of a TIFF of two, gray and alpha, interleaved; else None.

    OpenCV reduces such a file to 8 bit and multiplies it by alpha. It reads all of it where the header says that the
    file has one band of twice the width.
    """
    try:
        directory = Directory(data, index)
        bits, interleaved = directory.get(_BITS, 1), directory.get(_PLANES, 1) == 1
        if directory.get(_SAMPLES, 1) != 2 or bits not in (8, 16) or not interleaved or directory.get(_FORMAT, 1) != 1:
            return None
        predictor, tile = directory.get(_PREDICTOR, 1), directory.get(_TILE_WIDTH, 0)
        wide = _decode(_one_wide_band(directory, bits))
    except (ValueError, struct.error):
        return None
    if wide is None or wide.ndim != 2 or wide.dtype != (np.uint8 if bits == 8 else np.uint16):
        return None
    if predictor != 2:
        return np.ascontiguousarray(wide[:, ::2])
    # The decoder added each number to the one before; it belongs to the one before of its own band, within a tile.
    bands = []
    for start in range(0, wide.shape[1], 2 * tile or wide.shape[1]):
        part = wide[:, start : start + (2 * tile or wide.shape[1])]
        steps = np.diff(part, axis=1, prepend=part.dtype.type(0))
        bands.append(np.cumsum(steps[:, ::2], axis=1, dtype=part.dtype))
    return np.concatenate(bands, axis=1)


def _one_wide_band(directory: Directory, bits: int) -> bytes:
    """Append a directory to the file, and point to it, that describes one band of twice the width."""
    order, entries = directory.order, dict(directory.entries)
    entries.pop(_EXTRA, None)
    new = {_WIDTH: 2 * directory.get(_WIDTH, 0), _SAMPLES: 1, _BITS: bits, _FORMAT: 1}
    if _TILE_WIDTH in entries:
        new[_TILE_WIDTH] = 2 * directory.get(_TILE_WIDTH, 0)
    entries |= {tag: struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in new.items()}
    for tag in (_BITS, _FORMAT, _SAMPLES):  # SHORT, left-justified
        entries[tag] = struct.pack(order + "HHIHH", tag, 3, 1, new[tag], 0)
    body = struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    data = directory.data + b"\0" * (len(directory.data) % 2)
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + body


def _decode(data: bytes) -> np.ndarray | None:
    level = cv2.utils.logging.setLogLevel(0)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
