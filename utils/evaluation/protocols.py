"""Evaluation protocols of registration: "official", "band_free", "cameras" and "alignment".

"official" scores the pair as shipped. Its ``ir_warp`` has a black band where the deformation sampled outside the image,
and the outline of that band reveals the deformation; "band_free" therefore crops the pair to the largest central
rectangle without a band and registers it again. "cameras" scores a pair of unlike cameras by its true map; before
registration IR's frame is scaled onto VI's. A pair without a known true displacement or map is scored by "alignment",
which compares similarity measures before and after registration.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from datasets.paired import Pair
from models.results import SMALLEST_SIDE, Registration
from models.warping import central_rectangle, pixel_grid, resize, valid_mask
from utils.files.results import means
from utils.metrics.alignment import alignment_metrics
from utils.metrics.cameras import camera_metrics, fitted_frames, summarise_accepted, summarise_errors
from utils.metrics.fusion import gray_levels
from utils.metrics.registration import registration_metrics

# The protocols for pairs with a known true displacement.
PROTOCOLS = ("official", "band_free")


def score(
    pair: Pair, registration: Registration, register: Callable[[Tensor, Tensor], Registration], protocols: Sequence[str]
) -> dict[str, dict]:
    """Score one registered pair: ``{protocol: {"before": {...}, "after": {...}}}``.

    ``registration`` is a batch of one, of the images of ``pair``: ``p + flow_ir2vi(p)`` is a position in ``pair.ir``,
    which may differ from VI in size. A pair with a true map is scored by "cameras", one with a true flow by
    ``protocols``, others by "alignment", unless IR does not show the middle of VI; "band_free" registers the cropped
    pair by calling ``register``.
    """
    if pair.vi_to_ir is not None:
        return {"cameras": _map_errors(pair, registration)}
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
    """Crop ``pair``, which has a true flow, to the largest central rectangle without a black band.

    Returns None if that is too small for the networks. Raises ValueError if the centre itself is in the band.
    """
    rows, columns = central_rectangle(valid_mask(pair.flow[None])[0, 0])
    parts = (pair.ir, pair.vi, pair.ir_warp, pair.flow)
    cropped = Pair(pair.name, *(part[:, rows, columns] for part in parts))
    return cropped if min(cropped.vi.shape[-2:]) >= SMALLEST_SIDE else None


def _errors(estimated: Tensor, true: Tensor) -> dict[str, dict[str, float]]:
    flows = {"before": torch.zeros_like(true), "after": estimated.cpu()}
    return {when: registration_metrics(flow[None], true[None]) for when, flow in flows.items()}


def _map_errors(pair: Pair, registration: Registration) -> dict[str, dict[str, float]]:
    vi_size, ir_size = pair.vi.shape[-2:], pair.ir.shape[-2:]
    flow = registration.flow_ir2vi.cpu()
    positions = {"before": fitted_frames(vi_size, ir_size), "after": (pixel_grid(*vi_size, like=flow) + flow)[0]}
    return {when: camera_metrics(found, pair.vi_to_ir, ir_size) for when, found in positions.items()}


def _alignment(pair: Pair, registration: Registration) -> dict[str, dict[str, float]]:
    """Score before and after over the same pixels: the largest central rectangle that is valid in ``registration``."""
    rows, columns = central_rectangle(registration.valid[0, 0].cpu())
    given = resize((pair.ir if pair.ir_warp is None else pair.ir_warp)[None], pair.vi.shape[-2:])[0]
    images = (given, registration.registered[0].cpu(), pair.vi)
    ir, registered, vi = (gray_levels(image[:, rows, columns]) for image in images)
    return {"before": alignment_metrics(ir, vi), "after": alignment_metrics(registered, vi)}


def as_columns(scores: dict[str, dict]) -> dict[str, float]:
    """Flatten the scores of one pair to columns: ``EPE_after``, ``EPE_after_band_free``, ``align_MI_after`` ..."""
    return {
        f"{metric}_{when}" + ("_band_free" if protocol == "band_free" else ""): value
        for protocol, states in scores.items()
        for when, values in states.items()
        for metric, value in values.items()
    }


def registration_summary(scores: list[dict[str, dict]], accepted: Sequence[bool] | None = None) -> dict:
    """Average over pairs: ``{"registration": {protocol: {"before": means, "after": means}}}``; empty without scores.

    The official means are also stored directly below "registration", as "before" and "after". "cameras" contains all of
    :data:`utils.metrics.cameras.SUMMARY`, and with ``accepted``, one value per pair, an entry "accepted" of
    :func:`utils.metrics.cameras.summarise_accepted`.
    """
    registration = {}
    for protocol in (*PROTOCOLS, "alignment"):
        scored = [s[protocol] for s in scores if protocol in s]
        if scored:
            states = {when: [s[when] for s in scored] for when in ("before", "after")}
            registration[protocol] = {when: means(rows, rows[0]) for when, rows in states.items()}
    scored = [s["cameras"] for s in scores if "cameras" in s]
    if scored:
        errors = {when: [s[when]["error_640"] for s in scored] for when in ("before", "after")}
        registration["cameras"] = {when: summarise_errors(values) for when, values in errors.items()}
        if accepted is not None:
            registration["cameras"]["accepted"] = summarise_accepted(errors["after"], accepted)
    if not registration:
        return {}
    return {"registration": registration.get("official", {}) | registration}
