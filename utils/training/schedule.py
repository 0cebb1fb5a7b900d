"""The progress of a run, its learning rate, and the averaged weights, which are validated and saved."""

import torch
from torch import nn
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


class Average(AveragedModel):
    """The exponential moving average (EMA) of a network's weights; its ``module`` is a copy that holds them.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``, so that the first, random weights are soon
    forgotten. Buffers are those of the network itself.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Average the weights of ``model`` in; unlike torch's method, without waiting for the device."""
        n = int(self.n_averaged)  # on the CPU
        share = 1 - min(self.decay, (1 + n) / (10 + n)) if n else 1.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), share)
        for mine, current in zip(self.module.buffers(), model.buffers()):
            mine.copy_(current)
        self.n_averaged += 1
