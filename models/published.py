"""The networks that the authors' released weights were trained with, and the mapping of their keys to ours.

They deviate from the paper in three points: the matcher's sampling grid (:class:`PublishedMatcher`), missing sigmoids
in GSAM, and direction weights that GSAM computes but does not apply (:class:`models.gsam.GSAM`).

``MSRS.pth`` and ``RoadScene.pth`` hold dictionaries ``DM`` (matcher) and ``FN`` (fusion network) with the keys in the
tables below; SeAFusion's segmenter file uses the keys of :class:`models.bisenet.BiSeNet`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.dense_matcher import DenseMatcher
from models.fusion_net import FusionNet
from models.scan import DIRECTIONS
from models.superfusion import SuperFusion
from models.warping import per_axis, published_to_flow, warp
from utils.errors import UserError


class PublishedMatcher(DenseMatcher):
    """The matcher of the released weights, whose flows are displacements of a normalised sampling grid.

    The grid includes its end points but is sampled as if it did not (:func:`models.warping.published_to_flow`). Between
    scales a flow keeps that unit: the output of an estimator, in feature pixels, is divided by (w - 1, h - 1), and the
    input of the refiner is multiplied by it.
    """

    def __init__(self):
        super().__init__(correlation="squared", cost_dilation=4, cost_sigma=3.0, inputs="rgb")
        self.architecture = {}  # it takes no arguments

    def match(self, src: list[Tensor], tgt: list[Tensor], size: Sequence[int]) -> list[Tensor]:
        """Estimate the flows from target to source features, coarse to fine, in pixels as the default matcher does."""
        half, quarter = (feature.shape[-2:] for feature in tgt[:2])

        field8 = self.coarse(src[2], tgt[2])
        field8 = field8 / _span(field8)

        field4 = _resize(field8, quarter)
        residual = self.fine(warp(src[1], published_to_flow(field4)), tgt[1])
        field4 = field4 + residual / _span(residual)

        field2 = _resize(field4, half)
        refined = self.refine(warp(src[0], published_to_flow(field2)), tgt[0], field2 * _span(field2))
        field = _resize(refined / _span(refined), size)

        return [published_to_flow(f) for f in (field8, field4, field)]


def _span(field: Tensor) -> Tensor:
    """Return (w - 1, h - 1) as ``(1, 2, 1, 1)``."""
    height, width = field.shape[-2:]
    return per_axis(width - 1, height - 1, like=field)


def _resize(field: Tensor, size: Sequence[int]) -> Tensor:
    """Resize without scaling the values, which are normalised."""
    return F.interpolate(field, size=size, mode="bilinear", align_corners=False)


def published_superfusion() -> SuperFusion:
    """Build the networks that the authors' released weights fit, including their deviations from the paper."""
    return SuperFusion(PublishedMatcher(), FusionNet(published=True), passes=(1.0,), local=None)


# Released block name -> ours. In the files the layers of a block are keyed BLOCK.model.0.weight.
_STEM = ("lift1", "residual1", "lift2", "residual2")
_MATCHER = (
    {f"feature_extractor_unshare1.layers.{i}": f"pyramid.stem_ir.{name}" for i, name in enumerate(_STEM)}
    | {f"feature_extractor_unshare2.layers.{i}": f"pyramid.stem_vi.{name}" for i, name in enumerate(_STEM)}
    | {f"feature_extractor_share{s + 1}.{i}": f"pyramid.stages.{s}.{i}" for s in range(3) for i in range(2)}
    | {"matcher2.preprocessor": "coarse.project", "matcher1.preprocessor": "fine.project"}
    | {f"matcher2.featcompressor.{i}": f"coarse.compress.{i}" for i in range(2)}
    | {f"matcher1.featcompressor.{i}": f"fine.compress.{i}" for i in range(2)}
    | {f"matcher2.layers.{i}": f"coarse.estimate.{i}" for i in range(4)}
    | {f"matcher1.layers.{i}": f"fine.estimate.{i}" for i in range(4)}
    | {"refiner.preprocessor.0": "refine.project"}
    | {f"refiner.featcompressor.{i}": f"refine.compress.{i}" for i in range(2)}
    | {f"refiner.estimator.{i}": f"refine.estimate.{i}" for i in range(4)}
)
_FUSION = (
    {f"encoder_{m}.{i}": f"encoder_{m}.{i}" for m in ("ir", "vi") for i in range(4)}
    | {f"decoder.{i}": f"decoder.{i}" for i in range(4)}
    | {f"SAM.attention_layer.model.{i}": f"gsam.direction_weights.{i}" for i in range(3)}
    | {"SAM.conv_in": "gsam.context_in", "SAM.conv2": "gsam.between"}
    | {"SAM.conv3": "gsam.merge", "SAM.conv_out": "gsam.context_out"}
)


def is_published(content: dict) -> bool:
    """Tell whether a loaded file is one of the authors' SuperFusion checkpoints."""
    return isinstance(content.get("DM"), dict) and isinstance(content.get("FN"), dict)


def rename_published(content: dict, path: str) -> dict[str, Tensor]:
    """Rename the weights of a released SuperFusion file to the keys of :func:`published_superfusion`.

    Raises UserError naming ``path`` and the keys that do not belong to the released networks. Missing keys and shapes
    are left to :func:`utils.files.checkpoint.load_strictly`.
    """
    tensors: dict[str, Tensor] = {}
    unknown = []
    for network, table, ours in (("DM", _MATCHER, "matcher"), ("FN", _FUSION, "fusion")):
        for key, tensor in content[network].items():
            block, _, layer = key.rpartition(".model.")
            if block in table:
                tensors[f"{ours}.{table[block]}.{layer}"] = tensor
            elif not (network == "FN" and key.startswith("SAM.irnn")):
                unknown.append(f"{network} {key}")
    for scan in (1, 2):
        for part in ("weight", "bias"):
            keys = [f"SAM.irnn{scan}.{direction}_weight.{part}" for direction in DIRECTIONS]
            unknown += [f"FN without {key}" for key in keys if key not in content["FN"]]
            lines = [content["FN"][key].flatten() for key in keys if key in content["FN"]]
            if len(lines) == len(DIRECTIONS):
                tensors[f"fusion.gsam.scan{scan}.{part}"] = torch.stack(lines)
    if unknown:
        raise UserError(f"{path}: not the released SuperFusion networks: {'; '.join(unknown[:8])}")
    return tensors
