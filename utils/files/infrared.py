"""The IR files of one set as images in [0, 1]: one way of reading them, one stretch, one polarity.

A set's files come from one camera. What holds for all of them, the range of ``stretch="set"`` and the polarity, is
found once, from files spread evenly over the set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from utils.files.polarity import evidence, is_black_hot
from utils.files.stretch import PERCENTILES, Range, range_of, to_image
from utils.files.thermal import COLOUR, Thermal, read_thermal

_RANGE_FILES, _POLARITY_FILES = 64, 16  # at most


@dataclass(frozen=True)
class Reading:
    """How to read IR files: the options ``--page``, ``--thermal_colours``, ``--stretch`` and ``--polarity``.

    ``page`` and ``colours`` as in :func:`utils.files.thermal.read_thermal`; ``stretch``: "pair", the percentiles of each
    image; "set", of all together; or (low, high) in the files' unit; ``polarity``: "white_hot", "black_hot", or "auto",
    which judges pictures (measurements are white hot).
    """

    page: int | None = None
    colours: str = "auto"
    stretch: str | Range = "pair"
    polarity: str = "auto"


# Public data sets, which are white hot.
WHITE_HOT = Reading(polarity="white_hot")


@dataclass
class Infrared:
    """An IR file: ``image`` ``(1 or 3, h, w)`` in [0, 1], ``missing`` ``(1, h, w)`` bool or None, and what it was made of.

    ``range``: the values that became 0 and 1 (1 and 0 with ``black_hot``).
    """

    image: Tensor
    missing: Tensor | None
    thermal: Thermal
    range: Range
    black_hot: bool

    @property
    def notes(self) -> list[str]:
        """Lines to tell the user, to be printed after the file's name; those of files of one kind are equal."""
        notes = list(self.thermal.notes)
        if self.black_hot:
            notes.append("taken as black hot and inverted; --polarity white_hot takes it as it is")
        return notes


class InfraredReader:
    """Read the IR ``files`` of one set as images, as ``reading`` says. Raises UserError where :func:`read_thermal` does."""

    def __init__(self, files: Sequence[Path], reading: Reading = Reading()):
        self.files, self.reading = list(files), reading

    def read(self, path: str | Path) -> Infrared:
        """Read one of the files."""
        thermal = self.values(path)
        low, high = self._range(thermal)
        black_hot = self._black_hot(thermal)
        image, missing = to_image(thermal, low, high, black_hot)
        return Infrared(image, missing, thermal, (low, high), black_hot)

    def values(self, path: str | Path) -> Thermal:
        """Read one of the files to its original values."""
        return read_thermal(path, self.reading.page, self.reading.colours)

    def statement(self, infrared: Infrared) -> str:
        """Say in one line what became of the values of a file and of those like it."""
        unit, (low, high) = infrared.thermal.unit, infrared.range
        if self.reading.stretch == "pair" and infrared.thermal.measured:
            how = f"each image stretched between its {PERCENTILES[0]} and {PERCENTILES[1]} percentiles (per_image.csv)"
        else:
            how = f"{low:g} to {high:g} becomes 0 to 1"
            how += " (percentiles of the set)" if self.reading.stretch == "set" and infrared.thermal.measured else ""
        polarity = "black hot, inverted" if infrared.black_hot else "white hot"
        return f"IR is {unit}; {how}; taken as {polarity}"

    def _range(self, thermal: Thermal) -> Range:
        if isinstance(self.reading.stretch, tuple):
            return self.reading.stretch
        if not thermal.measured or self.reading.stretch == "pair":
            return range_of([thermal])
        return self._set_range

    def _black_hot(self, thermal: Thermal) -> bool:
        if self.reading.polarity != "auto":
            return self.reading.polarity == "black_hot"
        return not thermal.measured and thermal.unit != COLOUR and self._set_is_black_hot

    @cached_property
    def _set_range(self) -> Range:
        thermals = (self.values(path) for path in _spread(self.files, _RANGE_FILES))
        return range_of([thermal for thermal in thermals if thermal.measured])

    @cached_property
    def _set_is_black_hot(self) -> bool:
        thermals = (self.values(path) for path in _spread(self.files, _POLARITY_FILES))
        pictures = [thermal for thermal in thermals if not thermal.measured and thermal.unit != COLOUR]
        return is_black_hot([evidence(thermal.values) for thermal in pictures])


def _spread(files: list[Path], most: int) -> list[Path]:
    """Choose at most ``most`` files, evenly spaced."""
    count = min(most, len(files))
    return [files[index] for index in torch.linspace(0, len(files) - 1, count).round().int().tolist()]
