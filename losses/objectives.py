"""The training recipes: which terms a stage has, weighted by the config, as named terms and their ``total``.

A term whose weight is 0 is left out, so that an ablation is one line of YAML.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from losses import flow, fusion, photometric, segmentation
from utils.errors import UserError
from utils.training.config import Loss


def _weighted(**terms: tuple[float, Callable[[], Tensor]]) -> dict[str, Tensor]:
    values = {name: weight * term() for name, (weight, term) in terms.items() if weight}
    if not values:
        raise UserError(f"every weight of {', '.join(terms)} is 0: nothing is left to train on")
    return values | {"total": sum(values.values())}


def rf_objective(result: dict, batch: dict[str, Tensor], weights: Loss) -> dict[str, Tensor]:
    """Stage RF, registration and fusion: photometric, end-point, smoothness, border, fusion and consistency terms.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.deformed`: 2 n pairs, pair i + n the counterpart of pair i.
    ``result`` holds ``flows``, a list of flows (coarse to fine) for each direction "ir2vi" and "vi2ir";
    ``warped_ir`` and ``warped_vi`` ``(2n, 1, H, W)``, the luminances warped by the last of them; and, where fusion is
    trained, ``fused``, its sources ``fused_ir`` and ``fused_vi``, and ``fused_valid``, all ``(2k, 1, H, W)``, the
    first k from (registered IR, VI), the others their counterparts from (IR, registered VI).
    """
    flows, n = result["flows"], len(batch["ir"]) // 2
    last = {direction: scales[-1] for direction, scales in flows.items()}

    def end_point(*parts: tuple[str, slice]) -> Tensor:
        return sum(
            flow.end_point([f[part] for f in flows[way]], batch[f"flow_{way}"][part], batch[f"valid_{way}"][part])
            for way, part in parts
        )

    def photometric_term() -> Tensor:
        # Warped, an image must become what it is in its counterpart.
        targets = torch.cat((batch["ir"].roll(n, 0), batch["y"].roll(n, 0)))
        masks = torch.cat((batch["valid_ir2vi"], batch["valid_vi2ir"]))
        return photometric.photometric(torch.cat((result["warped_ir"], result["warped_vi"])), targets, masks)

    # The first n pairs have a deformed IR image, the others a deformed VI image. The registering field undoes the
    # deformation, as at test time; the other is the deformation itself.
    first, second = slice(0, n), slice(n, None)
    return _weighted(
        photometric=(weights.photometric, photometric_term),
        end_point_register=(weights.end_point_register, lambda: end_point(("ir2vi", first), ("vi2ir", second))),
        end_point_deform=(weights.end_point_deform, lambda: end_point(("ir2vi", second), ("vi2ir", first))),
        smoothness=(weights.smoothness, lambda: sum(flow.smoothness(f) for f in flows.values())),
        border=(weights.border, lambda: sum(flow.border(last[way], batch[f"valid_{way}"]) for way in last)),
        **_fusion_terms(result, weights),
        consistency=(weights.consistency, lambda: _consistency(result)),
    )


def f_objective(result: dict[str, Tensor], weights: Loss) -> dict[str, Tensor]:
    """Stage F, fusion alone: the fusion terms. ``result`` holds ``fused``, ``fused_ir``, ``fused_vi`` and
    ``fused_valid`` as above."""
    return _weighted(**_fusion_terms(result, weights))


def fs_objective(result: dict[str, Tensor], label: Tensor, weights: Loss) -> dict[str, Tensor]:
    """Stage FS, fusion for segmentation: the fusion terms, and the semantic loss through the segmenter.

    ``result`` holds ``fused``, ``fused_ir``, ``fused_vi`` and ``fused_valid`` as above, and the segmenter's
    ``logits`` and ``auxiliary`` ``(B, classes, H, W)`` on the fused RGB image; ``label`` is ``(B, H, W)``.
    The semantic loss is Lovasz-softmax on the main output and 0.25 of it on the auxiliary one (paper, Sec. III-D).
    """

    def semantic() -> Tensor:
        return _with_auxiliary(segmentation.lovasz_softmax, result["logits"], result["auxiliary"], label)

    return _weighted(**_fusion_terms(result, weights), semantic=(weights.semantic, semantic))


def seg_objective(logits: Tensor, auxiliary: Tensor, label: Tensor, weights: Loss) -> dict[str, Tensor]:
    """Stage SEG, the segmenter: cross-entropy with hard examples and Lovasz-softmax, 0.25 of each on ``auxiliary``."""

    outputs = (logits, auxiliary, label)
    return _weighted(
        cross_entropy=(weights.cross_entropy, lambda: _with_auxiliary(segmentation.ohem_cross_entropy, *outputs)),
        lovasz=(weights.lovasz, lambda: _with_auxiliary(segmentation.lovasz_softmax, *outputs)),
    )


def _with_auxiliary(
    term: Callable[[Tensor, Tensor], Tensor], logits: Tensor, auxiliary: Tensor, label: Tensor
) -> Tensor:
    return term(logits, label) + 0.25 * term(auxiliary, label)


def _fusion_terms(result: dict, weights: Loss) -> dict[str, tuple[float, Callable[[], Tensor]]]:
    def term(function: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: function(*(result[key] for key in ("fused", "fused_ir", "fused_vi", "fused_valid")))

    return {
        "gradient": (weights.fusion * weights.gradient, term(fusion.gradient)),
        "structure": (weights.fusion * weights.structure, term(fusion.structure)),
        "intensity": (weights.fusion * weights.intensity, term(fusion.intensity)),
        "selection": (weights.fusion * weights.selection, term(fusion.selection)),
        "detail": (weights.fusion * weights.detail, term(fusion.detail)),
    }


def _consistency(result: dict[str, Tensor]) -> Tensor:
    fused, valid = result["fused"].chunk(2), result["fused_valid"].chunk(2)
    return fusion.consistency(*fused, valid[0] * valid[1])
