"""The embedded sample: procedural scenes with a known deformation, for a first look without any data."""

import torch

from datasets.deformation import TEST, random_deformation
from datasets.paired import Pair, PairSet
from datasets.scene import render_scene
from models.warping import warp

_SCENES = 3


class SampleScenes(PairSet):
    """A few street scenes at dusk, 480 x 640; the IR image is deformed like those of the test sets.

    Indexing gives :class:`datasets.paired.Pair` with ``ir_warp``, ``flow`` and ``label``.
    """

    has_flow = True
    has_label = True

    def __init__(self):
        self.names = [f"street_{seed}" for seed in range(_SCENES)]

    def __getitem__(self, index: int) -> Pair:
        scene = render_scene(index)
        generator = torch.Generator().manual_seed(index)
        flow = random_deformation(1, tuple(scene["ir"].shape[-2:]), TEST, generator).displacement()
        ir_warp = warp(scene["ir"][None], flow)[0]
        return Pair(self.names[index], scene["ir"], scene["vi"], ir_warp, flow[0], scene["label"])
