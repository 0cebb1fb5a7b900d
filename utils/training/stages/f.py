"""Stage F: the fusion network alone, on aligned pairs."""

import statistics
from functools import partial

import torch
from torch import Tensor

from datasets.crops import CropSampler
from losses.objectives import f_objective
from models import SuperFusion
from utils.colour import luminance
from utils.training.config import Config
from utils.training.stages.base import Batch, Stage, Terms, fuse_aligned, superfusion
from utils.training.validation import fusion_scores, fusion_sheets, validation_pairs


def f_step(model: SuperFusion, batch: Batch, config: Config) -> Terms:
    """Fuse an aligned batch and compute the weighted loss terms and their ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.aligned`.
    """
    result = fuse_aligned(model, batch)
    with torch.autocast(result["fused"].device.type, enabled=False):
        return f_objective(result, config.loss)


def f_stage(config: Config, device: torch.device, seed: int) -> Stage:
    """Train the fusion network, with a frozen matcher; the best weights have the lowest loss on whole images."""
    sampler = CropSampler(config.data, seed, device)
    model = superfusion(config, device)
    model.matcher.requires_grad_(False)
    pairs = validation_pairs(config.data, labels=False)

    @torch.inference_mode()
    def validate(model: SuperFusion) -> tuple[dict[str, float], dict[str, Tensor]]:
        totals = []
        for pair in pairs:
            ir = luminance(pair.ir[None]).to(device)
            batch = {"ir": ir, "target_ir": ir, "vi": pair.vi[None].to(device)}
            totals.append(float(f_step(model, batch, config)["total"]))
        loss = statistics.fmean(totals)
        return {"fusion_loss": loss} | fusion_scores(model, pairs, device), fusion_sheets(model, pairs, device)

    return Stage(
        network=model,
        step=partial(f_step, config=config),
        sampler=sampler,
        draw=sampler.aligned,
        pairs=pairs,
        validate=validate,
        best="fusion_loss",
        lower_is_better=True,
        unused=("segmenter",),
    )
