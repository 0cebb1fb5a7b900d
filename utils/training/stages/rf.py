"""Stage RF: registration and fusion together, on aligned pairs that are deformed at random."""

from functools import partial

import torch
from torch import Tensor

from datasets.crops import CropSampler
from losses.objectives import rf_objective
from models import SuperFusion
from models.warping import valid_mask, warp
from utils.training.config import Config
from utils.training.stages.base import Batch, Stage, Terms, superfusion
from utils.training.validation import fusion_scores, registration_scores, registration_sheets, validation_pairs


def rf_step(model: SuperFusion, batch: Batch, config: Config) -> Terms:
    """Match and warp in both directions, fuse, and compute the weighted loss terms and their ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.deformed`. Networks run in the precision of the run, warps
    and losses in float32.
    """
    ir, y, n = batch["ir"], batch["y"], len(batch["ir"]) // 2
    k = min(config.train.fusion_batch, n)
    flows = model.matcher(batch["match_ir"].expand(-1, 3, -1, -1), batch["match_vi"], directions=("ir2vi", "vi2ir"))
    with torch.autocast(ir.device.type, enabled=False):
        flows = {direction: [flow.float() for flow in scales] for direction, scales in flows.items()}
        warped_ir, warped_vi = warp(ir, flows["ir2vi"][-1]), warp(y, flows["vi2ir"][-1])
        # (registered IR, VI), and its counterpart (IR, registered VI), whose fused image should be the same.
        fused_ir, fused_vi = torch.cat((warped_ir[:k], ir[n : n + k])), torch.cat((y[:k], warped_vi[n : n + k]))
        valid = {direction: valid_mask(flows[direction][-1]) * batch[f"valid_{direction}"] for direction in flows}
        fused_valid = torch.cat((valid["ir2vi"][:k], valid["vi2ir"][n : n + k]))
    result = {"flows": flows, "warped_ir": warped_ir, "warped_vi": warped_vi}
    if config.loss["fusion"] or config.loss["consistency"]:
        fused = model.fusion(fused_ir, fused_vi).float()
        result |= {"fused": fused, "fused_ir": fused_ir, "fused_vi": fused_vi, "fused_valid": fused_valid}
    with torch.autocast(ir.device.type, enabled=False):
        return rf_objective(result, batch, config.loss)


def rf_stage(config: Config, device: torch.device, seed: int) -> Stage:
    """Train both networks of SuperFusion; the best weights have the lowest band-free EPE."""
    sampler = CropSampler(config.data, seed, device)
    pairs = validation_pairs(config.data, labels=False)

    def validate(model: SuperFusion) -> tuple[dict[str, float], dict[str, Tensor]]:
        scores = registration_scores(model, pairs, device) | fusion_scores(model, pairs, device)
        return scores, registration_sheets(model, pairs, device)

    return Stage(
        network=superfusion(config, device),
        step=partial(rf_step, config=config),
        sampler=sampler,
        draw=sampler.deformed,
        pairs=pairs,
        validate=validate,
        best="EPE_band_free",
        lower_is_better=True,
        unused=("segmenter",),
    )
