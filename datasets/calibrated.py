"""A test set whose aligned pairs are not quite aligned, with the map that they are off by taken off."""

from dataclasses import replace
from pathlib import Path

from datasets.paired import Pair, PairSet
from models.registration import Transform
from models.registration.rig import check_sizes
from utils.errors import UserError


class CalibratedPairs(PairSet):
    """The pairs of ``pairs`` with VI brought onto the frame of the aligned IR image by a transform, bilinearly.

    ``rig`` is the transform's file, from VI to the set's aligned IR images (``test.py --calibrate``). True
    displacements and IR images stay as they are. Raises UserError for pairs without a true displacement.
    """

    def __init__(self, pairs: PairSet, rig: Path):
        if not pairs.has_flow:
            raise UserError("--set_rig is for test sets with true displacements (flow/); for your own pairs use --rig")
        self.pairs, self.rig = pairs, Transform.load(rig)
        self.names, self.has_flow, self.has_label = pairs.names, True, pairs.has_label

    def __getitem__(self, index: int) -> Pair:
        pair = self.pairs.subset(self.names)[index]
        check_sizes(self.rig, pair.ir, pair.vi)
        return replace(pair, vi=self.rig.warp_vi(pair.vi[None], "bilinear")[0][0])
