"""Score a registration: as shipped, without the black band, or by alignment alone.

"official" is the pair as shipped. The black band of its ``ir_warp``, where the deformation looked outside the image,
reveals the deformation; "band_free" therefore crops the pair to the largest central rectangle without band and
registers it anew. A pair whose true displacement is not known is scored by "alignment", which only compares before
with after.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from datasets.paired import Pair
from models.results import SMALLEST_SIDE, Registration
from models.warping import central_rectangle, resize, valid_mask
from utils.files.results import means
from utils.metrics.alignment import alignment_metrics
from utils.metrics.fusion import gray_levels
from utils.metrics.registration import registration_metrics

# What can be scored of a pair whose true displacement is known.
PROTOCOLS = ("official", "band_free")


def score(
    pair: Pair, registration: Registration, register: Callable[[Tensor, Tensor], Registration], protocols: Sequence[str]
) -> dict[str, dict]:
    """Score one registered pair: ``{protocol: {"before": {...}, "after": {...}}}``.

    ``registration`` is a batch of one. With a true flow the ``protocols`` are scored, else "alignment", unless IR does
    not show the middle of VI; "band_free" registers the cropped pair by ``register``.
    """
    if pair.flow is None or pair.ir_warp is None:
        height, width = registration.valid.shape[-2:]
        seen = bool(registration.valid[0, 0, height // 2, width // 2])
        return {"alignment": _alignment(pair, registration)} if seen else {}
    scores = {}
    if "official" in protocols:
        scores["official"] = _errors(registration.flow_ir2vi[0], pair.flow)
    cropped = without_band(pair) if "band_free" in protocols else None
    if cropped is not None:
        scores["band_free"] = _errors(register(cropped.ir_warp[None], cropped.vi[None]).flow_ir2vi[0], cropped.flow)
    return scores


def without_band(pair: Pair) -> Pair | None:
    """``pair``, which has a true flow, cropped to the largest central rectangle that shows no black band.

    None if that is smaller than the networks take. Raises ValueError if the centre itself is in the band.
    """
    rows, columns = central_rectangle(valid_mask(pair.flow[None])[0, 0])
    parts = (pair.ir, pair.vi, pair.ir_warp, pair.flow)
    cropped = Pair(pair.name, *(part[:, rows, columns] for part in parts))
    return cropped if min(cropped.vi.shape[-2:]) >= SMALLEST_SIDE else None


def _errors(estimated: Tensor, true: Tensor) -> dict[str, dict[str, float]]:
    flows = {"before": torch.zeros_like(true), "after": estimated.cpu()}
    return {when: registration_metrics(flow[None], true[None]) for when, flow in flows.items()}


def _alignment(pair: Pair, registration: Registration) -> dict[str, dict[str, float]]:
    """Both states over the same pixels: the largest central rectangle that the registered image fills."""
    rows, columns = central_rectangle(registration.valid[0, 0].cpu())
    given = resize((pair.ir if pair.ir_warp is None else pair.ir_warp)[None], pair.vi.shape[-2:])[0]
    images = (given, registration.registered[0].cpu(), pair.vi)
    ir, registered, vi = (gray_levels(image[:, rows, columns]) for image in images)
    return {"before": alignment_metrics(ir, vi), "after": alignment_metrics(registered, vi)}


def as_columns(scores: dict[str, dict]) -> dict[str, float]:
    """The scores of one pair as columns of a table: ``EPE_after``, ``EPE_after_band_free``, ``align_MI_after`` ..."""
    return {
        f"{metric}_{when}" + ("_band_free" if protocol == "band_free" else ""): value
        for protocol, stages in scores.items()
        for when, figures in stages.items()
        for metric, value in figures.items()
    }


def summarise(scores: list[dict[str, dict]]) -> dict:
    """``{"registration": {protocol: {"before": means, "after": means}}}`` over pairs; empty if none was registered.

    The official means also stand directly below "registration", as "before" and "after".
    """
    registration = {}
    for protocol in (*PROTOCOLS, "alignment"):
        scored = [s[protocol] for s in scores if protocol in s]
        if scored:
            stages = {when: [s[when] for s in scored] for when in ("before", "after")}
            registration[protocol] = {when: means(figures, figures[0]) for when, figures in stages.items()}
    if not registration:
        return {}
    return {"registration": registration.get("official", {}) | registration}
