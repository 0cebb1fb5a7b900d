"""The embedded sample: three real pairs with a known deformation, for a first look without any other data.

README.md in this folder says where the images come from; they may be used under the MIT licence beside it.
"""

from pathlib import Path

from datasets.deformation import deform
from datasets.paired import Pair, PairedFolders

_FOLDER = Path(__file__).parent
_SEED = 0


class SamplePairs(PairedFolders):
    """Three aligned pairs of 480 x 640, by day, at dusk and by night, deformed as the test sets are.

    Indexing returns a :class:`datasets.paired.Pair` with ``ir_warp`` and ``flow``. The deformation of a pair depends
    only on its name, so errors can be compared between machines.
    """

    def __init__(self):
        super().__init__(_FOLDER / "ir", _FOLDER / "vi")
        self.has_flow = True

    def __getitem__(self, index: int) -> Pair:
        return deform(super().__getitem__(index), _SEED, band=True)
