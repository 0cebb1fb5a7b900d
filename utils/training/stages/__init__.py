"""The training stages, one file and one line in STAGES each.

A stage is a function of (config, device, seed) that returns a :class:`utils.training.stages.base.Stage`: a network, a
sampler of batches, a training step, and a validation. It raises UserError if the config lacks a required key. To add a
stage, write such a function in a new file here and register it under its name for ``stage:`` in a config.
"""

from collections.abc import Callable

import torch

from utils.training.config import Config
from utils.training.stages.base import Stage
from utils.training.stages.f import f_stage
from utils.training.stages.fs import fs_stage
from utils.training.stages.r import r_stage
from utils.training.stages.rf import rf_stage
from utils.training.stages.seg import seg_stage

STAGES: dict[str, Callable[[Config, torch.device, int], Stage]] = {
    "R": r_stage,
    "RF": rf_stage,
    "F": f_stage,
    "FS": fs_stage,
    "SEG": seg_stage,
}
