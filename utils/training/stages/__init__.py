"""The training stages: what each trains, on what, by which step. Each is a file here and a line in STAGES.

A stage is a function of (config, device, seed) that returns a :class:`utils.training.stages.base.Stage`: a network, a
sampler of batches, a step, and how the network is validated. It raises UserError for what the config lacks. To add one,
write such a function in a file of its own and register it under the name that ``stage:`` shall have in a config.
"""

from collections.abc import Callable

import torch

from utils.training.config import Config
from utils.training.stages.base import Stage
from utils.training.stages.f import f_stage
from utils.training.stages.fs import fs_stage
from utils.training.stages.rf import rf_stage
from utils.training.stages.seg import seg_stage

STAGES: dict[str, Callable[[Config, torch.device, int], Stage]] = {
    "RF": rf_stage,
    "F": f_stage,
    "FS": fs_stage,
    "SEG": seg_stage,
}
