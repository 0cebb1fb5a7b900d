"""The interface of a training stage, and functions that several stages share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datasets.crops import Batch, CropSampler
from datasets.paired import Pair
from models import SuperFusion, load_weights
from models.build import build_superfusion
from utils.colour import luminance
from utils.errors import UserError
from utils.training.config import Config

Terms = dict[str, Tensor]


@dataclass
class Stage:
    """A training stage: network, step, data and validation."""

    network: nn.Module  # trained, averaged and saved
    step: Callable[[nn.Module, Batch], Terms]  # weighted loss terms by name, and their "total"
    sampler: CropSampler  # its random state is advanced by draw
    draw: Callable[[int], tuple[Batch, Tensor]]  # a batch of n images, and their indices in sampler.names
    pairs: list[Pair]  # for validation
    validate: Callable[[nn.Module], tuple[dict[str, float], dict[str, Tensor]]]  # scores, and pictures, by name
    best: str  # the score by which the best weights are kept
    lower_is_better: bool = False
    unused: tuple[str, ...] = ()  # of train.init and train.segmenter, what means nothing to it


class Step(nn.Module):
    """A network with its step as ``forward``, so that Accelerate can wrap both together."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.network, self.step = stage.network, stage.step

    def forward(self, batch: Batch) -> Terms:
        return self.step(self.network, batch)


def superfusion(config: Config, device: torch.device) -> SuperFusion:
    """Build the SuperFusion of the config, with the weights of ``train.init`` if it is set."""
    try:
        model = build_superfusion(**config.model)
    except (TypeError, ValueError) as error:
        raise UserError(f"config: model: {error}") from error
    if config.train.init:
        load_weights(model, config.train.init)
    return model.to(device)


def fuse_aligned(model: SuperFusion, batch: Batch) -> Batch:
    """Fuse the luminances of an aligned batch; return the inputs of the fusion terms, with the IR that is in line."""
    y = luminance(batch["vi"])
    fused = model.fusion(batch["ir"], y).float()
    return {"fused": fused, "fused_ir": batch["target_ir"], "fused_vi": y, "fused_valid": torch.ones_like(y)}
