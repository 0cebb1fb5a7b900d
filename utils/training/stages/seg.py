"""Stage SEG: the segmenter, on labelled visible, infrared or fused images, or on all three."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from datasets.crops import CropSampler
from losses.objectives import seg_objective
from models import BiSeNet, load_segmenter
from utils.colour import luminance
from utils.errors import UserError
from utils.training.config import Config, choose
from utils.training.stages.base import Batch, Stage, Terms, superfusion
from utils.training.validation import segmentation_scores, validation_pairs

# Maps IR and VI, (B, 1 or 3, H, W), to the image to segment, (B, 1 or 3, H, W).
Picture = Callable[[Tensor, Tensor], Tensor]


def visible(config: Config, device: torch.device) -> Picture:
    return lambda ir, vi: vi


def infrared(config: Config, device: torch.device) -> Picture:
    return lambda ir, vi: luminance(ir)


def fused(config: Config, device: torch.device) -> Picture:
    """Fuse with the frozen SuperFusion of ``train.init``."""
    if not config.train.init:
        raise UserError(f"data.input={config.data.input} needs train.init: the weights of the SuperFusion to fuse with")
    return torch.no_grad()(superfusion(config, device).eval().fuse)


def mixed(config: Config, device: torch.device) -> Picture:
    """Take turns within a batch: one pair fused, the next one's VI, then an IR; a lone pair, to validate, is fused."""
    if config.train.batch < 3:
        raise UserError(f"train.batch is {config.train.batch}; data.input=mixed needs at least 3, one of each kind")
    fuse = fused(config, device)

    def picture(ir: Tensor, vi: Tensor) -> Tensor:
        image = vi.expand(-1, 3, -1, -1).clone()
        image[::3] = fuse(ir[::3], vi[::3]).to(image)
        image[2::3] = luminance(ir[2::3])
        return image

    return picture


# data.input -> its picture.
PICTURES: dict[str, Callable[[Config, torch.device], Picture]] = {
    "vi": visible,
    "ir": infrared,
    "fused": fused,
    "mixed": mixed,
}


def seg_step(segmenter: BiSeNet, batch: Batch, config: Config, picture: Picture) -> Terms:
    """Segment the pictures of a batch and compute the weighted loss terms and their ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.aligned`, with labels.
    """
    logits, auxiliary = segmenter(picture(batch["ir"], batch["vi"]).expand(-1, 3, -1, -1))
    with torch.autocast(logits.device.type, enabled=False):
        return seg_objective({"logits": logits, "auxiliary": auxiliary}, batch["label"], config.loss)


def seg_stage(config: Config, device: torch.device, seed: int) -> Stage:
    """Train a BiSeNet, from ``train.segmenter`` if it is set; the best weights have the highest mIoU."""
    if config.train.batch < 2:
        raise UserError("train.batch is 1; stage SEG normalises over a batch and needs at least 2")
    make_picture = choose("data.input", config.data.input, PICTURES)
    sampler = CropSampler(config.data, seed, device, labels=True)
    start = config.train.segmenter
    segmenter = (load_segmenter(start) if start else BiSeNet()).to(device)
    pairs = validation_pairs(config.data, labels=True)
    picture = make_picture(config, device)

    def validate(segmenter: BiSeNet) -> tuple[dict[str, float], dict[str, Tensor]]:
        return segmentation_scores(segmenter, picture, pairs, device)

    return Stage(
        network=segmenter,
        step=partial(seg_step, config=config, picture=picture),
        sampler=sampler,
        draw=sampler.aligned,
        pairs=pairs,
        validate=validate,
        best="mIoU",
        unused=() if config.data.input in ("fused", "mixed") else ("init",),
    )
