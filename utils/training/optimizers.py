"""The optimisers, by their name in ``train.optimizer``."""

from collections.abc import Callable

import torch
from pytorch_optimizer import SOAP

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "soap": SOAP}
