"""The IR files of one set as images in [0, 1]: one way of reading them, one stretch, one polarity.

A set's files come from one camera. What holds for all of them, the range of ``stretch="set"`` and the polarity, is
found once, from files spread evenly over the set.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.polarity import evidence, is_black_hot
from utils.files.stretch import PERCENTILES, Range, range_of, to_image
from utils.files.thermal import GRAY, PALETTE, Thermal, read_thermal

_RANGE_FILES, _POLARITY_FILES = 64, 16  # at most


@dataclass(frozen=True)
class Reading:
    """How to read files: the options ``--page``, ``--thermal_colours``, ``--stretch``, ``--polarity``, ``--vi_bits``.

    ``page``, ``colours`` and ``rgbt`` as in :func:`utils.files.thermal.read_thermal`; ``vi_bits`` as in
    :class:`utils.files.images.VisibleReader`; ``stretch``: "pair", the percentiles of
    each image; "set", of all together; or (low, high) in the files' unit; ``polarity``: "white_hot", "black_hot", or
    "auto", which judges pictures (measurements are white hot).
    """

    page: int | None = None
    colours: str = "auto"
    stretch: str | Range = "pair"
    polarity: str = "auto"
    vi_bits: int | None = None
    rgbt: bool = False


# The default, and how public data sets are read, which are white hot.
DEFAULT, WHITE_HOT = Reading(), Reading(polarity="white_hot")


@dataclass
class Infrared:
    """An IR file: ``image`` ``(1 or 3, h, w)`` in [0, 1], ``missing`` ``(1, h, w)`` bool or None, and its origin.

    ``range``: the values that became 0 and 1 (1 and 0 with ``black_hot``); ``statement``: what became of the values of
    this file and of those like it, in one line.
    """

    image: Tensor
    missing: Tensor | None
    thermal: Thermal
    range: Range
    black_hot: bool
    statement: str

    @property
    def notes(self) -> list[str]:
        """Lines to tell the user, to be printed after the file's name; those of files of one kind are equal."""
        if not self.black_hot:
            return self.thermal.notes
        instead = "--polarity white_hot, for training data.polarity=white_hot"
        return self.thermal.notes + [f"IR is taken as black hot and inverted; if it is not: {instead}"]


class InfraredReader:
    """Read the IR ``files`` of one set as images, as ``reading`` says. UserError as from :func:`read_thermal`."""

    def __init__(self, files: Sequence, reading: Reading = DEFAULT):
        self.files, self.reading = list(files), reading

    def read(self, path: str | Path) -> Infrared:
        """Read one of the files."""
        thermal = self.values(path)
        low, high = self._range(thermal)
        black_hot = self._black_hot(thermal)
        image, missing = to_image(thermal, low, high, black_hot)
        statement = self._statement(thermal, low, high, black_hot)
        return Infrared(image, missing, thermal, (low, high), black_hot, statement)

    def values(self, path: str | Path) -> Thermal:
        """Read one of the files to its original values."""
        return read_thermal(path, self.reading.page, self.reading.colours, self.reading.rgbt)

    def _statement(self, thermal: Thermal, low: float, high: float, black_hot: bool) -> str:
        if self.reading.stretch == "pair" and thermal.measured:
            how = "each image is stretched between its {} and {} percentiles".format(*PERCENTILES)
        else:
            how = f"{low:g} to {high:g} becomes black to white"
            how += ", percentiles of the set" if self.reading.stretch == "set" and thermal.measured else ""
        return f"IR is {thermal.unit}; {how}; taken as {'black' if black_hot else 'white'} hot"

    def _range(self, thermal: Thermal) -> Range:
        if isinstance(self.reading.stretch, tuple):
            return self.reading.stretch
        if not thermal.measured or self.reading.stretch == "pair":
            return range_of([thermal])
        return self._set_range or range_of([thermal])

    def _black_hot(self, thermal: Thermal) -> bool:
        if self.reading.polarity != "auto":
            return self.reading.polarity == "black_hot"
        return self._black_hot_units.get(thermal.unit, False)

    @cached_property
    def _set_range(self) -> Range | None:
        measured = [thermal for thermal in self._spread(_RANGE_FILES) if thermal.measured]
        return range_of(measured) if measured else None

    @cached_property
    def _black_hot_units(self) -> dict[str, bool]:
        """Whether the set's gray pictures are black hot, and whether those in false colours are."""
        evidences: dict[str, list[float]] = {GRAY: [], PALETTE: []}
        for thermal in self._spread(_POLARITY_FILES):
            if thermal.unit in evidences:
                evidences[thermal.unit].append(evidence(thermal.values))
        return {unit: is_black_hot(found) for unit, found in evidences.items()}

    def _spread(self, most: int) -> Iterator[Thermal]:
        """Read at most ``most`` of the files, evenly spaced. What cannot be read is named when its turn comes."""
        for index in torch.linspace(0, len(self.files) - 1, min(most, len(self.files))).round().int().tolist():
            with suppress(UserError):
                yield self.values(self.files[index])


def read_infrared(path: str | Path, reading: Reading = DEFAULT) -> Infrared:
    """Read a single IR file as an image in [0, 1]."""
    return InfraredReader([Path(path)], reading).read(path)
