"""The training objectives: the loss terms of each stage, their weights and their sum.

A term is a function, registered here under its name with its default weight. To add one, write the function in a file
of :mod:`losses` and give it a line in the table of its kind; the config then knows ``loss.NAME``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from losses import flow, fusion, photometric, segmentation
from losses.target import target
from utils.errors import UserError


@dataclass(frozen=True)
class Term:
    """A loss term: its default ``weight``, and the ``function`` that computes it, a scalar."""

    weight: float
    function: Callable[..., Tensor]


def photometric_both(result: dict, batch: dict[str, Tensor]) -> Tensor:
    """Compute the photometric loss of both warped images against what they should show."""
    targets = torch.cat((batch["target_ir"], batch["target_y"]))
    masks = torch.cat((batch["valid_ir2vi"], batch["valid_vi2ir"]))
    return photometric.photometric(torch.cat((result["warped_ir"], result["warped_vi"])), targets, masks)


# The first half of the pairs has a deformed IR image, the other a deformed VI image. In each pair, the flow of one
# direction undoes the deformation, as at test time; the flow of the other direction is the deformation itself.


def epe_register(result: dict, batch: dict[str, Tensor]) -> Tensor:
    """Compute the EPE of the flows that undo the deformation."""
    n = len(batch["ir"]) // 2
    return _epe(result, batch, "ir2vi", slice(0, n)) + _epe(result, batch, "vi2ir", slice(n, None))


def epe_deform(result: dict, batch: dict[str, Tensor]) -> Tensor:
    """Compute the EPE of the flows that are the deformation itself."""
    n = len(batch["ir"]) // 2
    return _epe(result, batch, "ir2vi", slice(n, None)) + _epe(result, batch, "vi2ir", slice(0, n))


def _epe(result: dict, batch: dict[str, Tensor], direction: str, pairs: slice) -> Tensor:
    flows = [scale[pairs] for scale in result["flows"][direction]]
    return flow.epe(flows, batch[f"flow_{direction}"][pairs], batch[f"valid_{direction}"][pairs])


def smoothness_both(result: dict, batch: dict[str, Tensor]) -> Tensor:
    """Add up the smoothness of both directions."""
    return sum(flow.smoothness(scales) for scales in result["flows"].values())


def border_both(result: dict, batch: dict[str, Tensor]) -> Tensor:
    """Add up the border suppression of both directions."""
    return sum(flow.border(scales[-1], batch[f"valid_{direction}"]) for direction, scales in result["flows"].items())


def consistency_of_counterparts(result: dict[str, Tensor]) -> Tensor:
    """Compare the images fused from two counterparts, where both are valid."""
    fused, counterpart = result["fused"].chunk(2)
    valid, counterpart_valid = result["fused_valid"].chunk(2)
    return fusion.consistency(fused, counterpart, valid * counterpart_valid)


def with_auxiliary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """Turn a loss of (logits, label) into a loss of (result, label): main output + 0.25 auxiliary output."""

    def both(result: dict[str, Tensor], label: Tensor) -> Tensor:
        return function(result["logits"], label) + 0.25 * function(result["auxiliary"], label)

    return both


# Stages R and RF: functions of (result, batch), see r_objective.
MATCHING_TERMS = {
    "photometric": Term(10.0, photometric_both),
    "epe_register": Term(0.1, epe_register),
    "epe_deform": Term(0.1, epe_deform),
    "smoothness": Term(0.1, smoothness_both),
    "border": Term(1.0, border_both),
}

# Stages RF, F and FS: functions of (fused, ir, vi, mask), images (B, 1, H, W). All are weighted by "fusion" once more.
FUSION_WEIGHT = 10.0
FUSION_TERMS = {
    "gradient": Term(0.6, fusion.gradient),
    "ssim": Term(0.3, fusion.ssim),
    "intensity": Term(0.1, fusion.intensity),
}

# Likewise, but functions of (fused, selected, mask), selected the target of losses/target.py.
TARGET_TERMS = {
    "selection": Term(0.0, fusion.selection),  # ours: the intensities of the target
    "detail": Term(0.0, fusion.detail),  # ours: the texture of the target, relative to its local contrast
}

# Likewise, but functions of (fused, ir, vi, share, mask), share the weight of IR in that target.
SHARE_TERMS = {"edges": Term(0.0, fusion.edges)}  # ours: the edges of both sources, by their strength

# Stage RF: functions of (result), see rf_objective.
COUNTERPART_TERMS = {"consistency": Term(1.0, consistency_of_counterparts)}

# Stages FS and SEG: functions of (result, label), see fs_objective.
SEMANTIC_TERMS = {"semantic": Term(1.0, with_auxiliary(segmentation.lovasz_softmax))}
SEGMENTER_TERMS = {
    "cross_entropy": Term(1.0, with_auxiliary(segmentation.ohem_cross_entropy)),
    "lovasz": Term(1.0, with_auxiliary(segmentation.lovasz_softmax)),
}

Weights = dict[str, float]


def loss_weights(**changes: float) -> Weights:
    """Return the weights of all terms and of "fusion" by name: the defaults, updated by ``changes``.

    Raises ValueError for an unknown name.
    """
    others = FUSION_TERMS | TARGET_TERMS | SHARE_TERMS | COUNTERPART_TERMS | SEMANTIC_TERMS | SEGMENTER_TERMS
    weights = {name: term.weight for name, term in MATCHING_TERMS.items()} | {"fusion": FUSION_WEIGHT}
    weights |= {name: term.weight for name, term in others.items()}
    unknown = changes.keys() - weights.keys()
    if unknown:
        raise ValueError(f"unknown terms {', '.join(sorted(unknown))}; known are {', '.join(weights)}")
    return weights | changes


def r_objective(result: dict, batch: dict[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """Stage R, registration alone: return its weighted terms by name, and their ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.deformed`, N pairs. ``result`` holds ``flows``, a list of
    flows (coarse to fine) for each direction "ir2vi" and "vi2ir"; ``warped_ir`` and ``warped_vi`` ``(N, 1, H, W)``, the
    luminances warped by the last of them.

    All objectives omit the terms of weight 0, whose inputs may then be missing; they raise UserError if no term is
    left.
    """
    return _with_total(_weighted(MATCHING_TERMS, weights, result, batch), MATCHING_TERMS)


def rf_objective(result: dict, batch: dict[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """Stage RF, registration and fusion: return its weighted terms by name, and their ``total``.

    ``batch`` has 2 n pairs, pair i + n the counterpart of pair i. ``result`` holds what :func:`r_objective` names and,
    where fusion is trained, ``fused``, its sources ``fused_ir`` and ``fused_vi``, and ``fused_valid``, all
    ``(2k, 1, H, W)``, the first k from (registered IR, VI), the others their counterparts from (IR, registered VI).
    """
    terms = (
        _weighted(MATCHING_TERMS, weights, result, batch)
        | _weighted_fusion(result, weights)
        | _weighted(COUNTERPART_TERMS, weights, result)
    )
    return _with_total(terms, [*MATCHING_TERMS, *_on_fused(), *COUNTERPART_TERMS])


def f_objective(result: dict[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """Stage F, fusion alone: return its weighted terms by name, and their ``total``.

    ``result`` holds ``fused``, ``fused_ir``, ``fused_vi`` and ``fused_valid`` as above.
    """
    return _with_total(_weighted_fusion(result, weights), _on_fused())


def fs_objective(result: dict[str, Tensor], label: Tensor, weights: Weights) -> dict[str, Tensor]:
    """Stage FS, fusion for segmentation: return its weighted terms by name, and their ``total``.

    ``result`` holds ``fused``, ``fused_ir``, ``fused_vi`` and ``fused_valid`` as above, and the segmenter's
    ``logits`` and ``auxiliary`` ``(B, classes, H, W)`` on the fused RGB image; ``label`` is ``(B, H, W)``.
    The semantic loss is Lovasz-softmax on the main output and 0.25 of it on the auxiliary one (paper, Sec. III-D).
    """
    terms = _weighted_fusion(result, weights) | _weighted(SEMANTIC_TERMS, weights, result, label)
    return _with_total(terms, [*_on_fused(), *SEMANTIC_TERMS])


def seg_objective(result: dict[str, Tensor], label: Tensor, weights: Weights) -> dict[str, Tensor]:
    """Stage SEG, the segmenter: return its weighted terms by name, and their ``total``.

    ``result`` holds the segmenter's ``logits`` and ``auxiliary`` ``(B, classes, H, W)``; ``label`` is ``(B, H, W)``.
    """
    return _with_total(_weighted(SEGMENTER_TERMS, weights, result, label), SEGMENTER_TERMS)


def _weighted(terms: dict[str, Term], weights: Weights, *inputs) -> dict[str, Tensor]:
    return {name: weights[name] * term.function(*inputs) for name, term in terms.items() if weights[name]}


def _on_fused() -> list[str]:
    return [*FUSION_TERMS, *TARGET_TERMS, *SHARE_TERMS]


def _weighted_fusion(result: dict[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    if not weights["fusion"]:
        return {}
    fused, ir, vi, mask = (result[key] for key in ("fused", "fused_ir", "fused_vi", "fused_valid"))
    scaled = {name: weights["fusion"] * weights[name] for name in _on_fused()}
    terms = _weighted(FUSION_TERMS, scaled, fused, ir, vi, mask)
    if any(scaled[name] for name in [*TARGET_TERMS, *SHARE_TERMS]):
        selected, share = target(ir, vi, mask)
        terms |= _weighted(TARGET_TERMS, scaled, fused, selected, mask)
        terms |= _weighted(SHARE_TERMS, scaled, fused, ir, vi, share, mask)
    return terms


def _with_total(terms: dict[str, Tensor], possible: Iterable[str]) -> dict[str, Tensor]:
    if not terms:
        raise UserError(f"every weight of {', '.join(possible)} is 0: nothing is left to train on")
    return terms | {"total": sum(terms.values())}
