"""The training recipes: which terms a stage has, weighted by the config, as named terms and their total."""

from torch import Tensor

from losses import flow, fusion
from utils.config import Loss


def rf_objective(result: dict, batch: dict[str, Tensor], weights: Loss) -> dict[str, Tensor]:
    """Registration and fusion (stage RF): weighted terms by name, and their ``total``.

    ``result`` holds ``flows``: a list of flows (coarse to fine) for each direction "ir2vi" and "vi2ir"; and, where
    fusion is trained, ``fused``, ``registered`` and ``vi`` ``(b, 1, H, W)`` with ``valid``. ``batch`` is that of
    :meth:`datasets.crops.CropSampler.batch`.
    """
    terms = {}
    if weights.end_point:
        terms["end_point"] = weights.end_point * sum(
            flow.end_point(flows, batch[f"flow_{direction}"], batch[f"valid_{direction}"])
            for direction, flows in result["flows"].items()
        )
    if weights.smoothness:
        terms["smoothness"] = weights.smoothness * sum(flow.smoothness(f) for f in result["flows"].values())
    if weights.fusion:
        sources = (result["registered"], result["vi"], result["valid"])
        terms["fusion"] = weights.fusion * fusion.fusion(result["fused"], *sources)
    return terms | {"total": sum(terms.values())}
