"""Stage R: the matcher alone, on aligned pairs that are deformed at random."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from datasets.crops import CropSampler
from losses.objectives import r_objective
from models import SuperFusion
from models.warping import warp
from utils.errors import UserError
from utils.training.config import Config
from utils.training.stages.base import Batch, Stage, Terms, superfusion
from utils.training.validation import registration_scores, registration_sheets, validation_pairs


def r_step(model: SuperFusion, batch: Batch, config: Config) -> Terms:
    """Match in both directions, from the same features, and compute the weighted loss terms and their ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.deformed` without counterparts. The images are warped only
    for the photometric term.
    """
    flows = model.matcher(batch["match_ir"].expand(-1, 3, -1, -1), batch["match_vi"], directions=("ir2vi", "vi2ir"))
    with torch.autocast(batch["ir"].device.type, enabled=False):
        result: dict[str, Any] = {
            "flows": {direction: [flow.float() for flow in scales] for direction, scales in flows.items()}
        }
        if config.loss["photometric"]:
            for modality, image, direction in (("ir", "ir", "ir2vi"), ("vi", "y", "vi2ir")):
                result[f"warped_{modality}"] = warp(batch[image], result["flows"][direction][-1])
        return r_objective(result, batch, config.loss)


def r_stage(config: Config, device: torch.device, seed: int) -> Stage:
    """Train the matcher, with a frozen fusion network; the best weights have the lowest band-free EPE."""
    if config.train.batch < 2:
        raise UserError("train.batch is 1; stage R deforms IR in one half of a batch and VI in the other: 2 at least")
    sampler = CropSampler(config.data, seed, device)
    model = superfusion(config, device)
    model.fusion.requires_grad_(False)
    pairs = validation_pairs(config.data, labels=False)

    def validate(model: SuperFusion) -> tuple[dict[str, float], dict[str, Tensor]]:
        return registration_scores(model, pairs, device), registration_sheets(model, pairs, device)

    return Stage(
        network=model,
        step=partial(r_step, config=config),
        sampler=sampler,
        draw=partial(sampler.deformed, counterparts=False),
        pairs=pairs,
        validate=validate,
        best="EPE_band_free",
        lower_is_better=True,
        unused=("segmenter",),
    )
