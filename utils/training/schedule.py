"""The progress of a run, its learning rate, and the averaged weights, which are validated and saved."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from utils.training.config import Train


def share_done(step: int, minutes: float, train: Train) -> float:
    """Return the share of the run that is done, 0 to 1 or more: the larger of the shares by steps and by time."""
    done = step / train.steps
    return done if train.minutes is None else max(done, minutes / train.minutes)


def learning_rate(done: float, train: Train) -> float:
    """Warm up linearly, stay constant, decay linearly to a thousandth; ``done``, the share of the run, from 0 to 1."""
    rise = min(1.0, done / train.warmup) if train.warmup else 1.0
    fall = min(1.0, (1 - done) / train.decay) if train.decay else 1.0
    return train.lr * max(1e-3, min(rise, fall))


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Make the exponential moving average (EMA) of ``network``'s weights; its ``module`` is a copy that holds them.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``, so that the first, random weights are soon
    forgotten. Buffers are those of ``network`` itself.
    """

    # All tensors in one call, since one call per tensor would synchronise a GPU each time.
    def average(means: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        torch._foreach_lerp_(means, current, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(network, multi_avg_fn=average)
