"""Stage FS: the fusion network, fine-tuned for segmentation, on aligned pairs with labels."""

from functools import partial

import torch
from torch import Tensor

from datasets.crops import CropSampler
from losses.objectives import fs_objective
from models import BiSeNet, SuperFusion, load_segmenter
from utils.colour import rgb_to_ycbcr, ycbcr_to_rgb
from utils.errors import UserError
from utils.training.config import Config
from utils.training.stages.base import Batch, Stage, Terms, fuse_aligned, superfusion
from utils.training.validation import fusion_scores, segmentation_scores, validation_pairs


def fs_step(model: SuperFusion, batch: Batch, config: Config, segmenter: BiSeNet) -> Terms:
    """Fuse an aligned batch, segment the fused images, and compute the weighted loss terms and their ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.aligned`, with labels. The segmenter is frozen; the gradient
    passes through it to the fusion network.
    """
    result = fuse_aligned(model, batch)
    if config.loss["semantic"]:
        fused, (_, cb, cr) = result["fused"], rgb_to_ycbcr(batch["vi"])
        logits, auxiliary = segmenter(ycbcr_to_rgb(fused, cb, cr))
        result |= {"logits": logits, "auxiliary": auxiliary}
    with torch.autocast(result["fused"].device.type, enabled=False):
        return fs_objective(result, batch["label"], config.loss)


def fs_stage(config: Config, device: torch.device, seed: int) -> Stage:
    """Train the fusion network of ``train.init`` through the frozen ``train.segmenter``; best is the highest mIoU."""
    if not config.train.segmenter:
        raise UserError("stage FS needs train.segmenter: the weights of a BiSeNet, of stage SEG or SeAFusion's")
    if not config.train.init:
        raise UserError("stage FS needs train.init: the weights of a SuperFusion, whose fusion network it tunes")
    sampler = CropSampler(config.data, seed, device, labels=True)
    segmenter = load_segmenter(config.train.segmenter).to(device).requires_grad_(False)
    model = superfusion(config, device)
    model.matcher.requires_grad_(False)
    pairs = validation_pairs(config.data, labels=True)

    def validate(model: SuperFusion) -> tuple[dict[str, float], dict[str, Tensor]]:
        scores, sheets = segmentation_scores(segmenter, model.fuse, pairs, device)
        return scores | fusion_scores(model, pairs, device), sheets

    return Stage(
        network=model,
        step=partial(fs_step, config=config, segmenter=segmenter),
        sampler=sampler,
        draw=sampler.aligned,
        pairs=pairs,
        validate=validate,
        best="mIoU",
    )
