"""The full state of a training run on disk, from which it can be resumed exactly."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from utils.errors import UserError
from utils.files.checkpoint import read_torch_file
from utils.files.writing import write_file
from utils.training.config import Config, with_current_names

# Keys whose values may differ when a run is resumed; any other would make it another run.
_MAY_CHANGE = {"data.root", "train.steps", "train.minutes", "train.save_every", "train.validate_every"}


@dataclasses.dataclass
class Progress:
    """The progress of a run."""

    step: int = 0
    minutes: float = 0.0
    validated: int | None = None  # the step of the last validation
    best: float = -math.inf  # the best validation score so far, higher is better
    validations: list[dict[str, float]] = dataclasses.field(default_factory=list)  # of the main process


def save_state(path: Path, config: Config, **parts: Any) -> None:
    """Write ``config`` and ``parts`` (state dictionaries, tensors, numbers, lists) atomically."""
    write_file(path, partial(torch.save, {"config": dataclasses.asdict(config)} | parts))


def load_state(path: Path, config: Config) -> dict[str, Any]:
    """Read a file of :func:`save_state` onto the CPU; UserError if it is unreadable or of another ``config``."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; nothing to resume")
    state = read_torch_file(path, "a readable state of a training run")
    if not isinstance(state, dict) or "config" not in state:
        raise UserError(f"{path}: not the state of a training run")
    saved, current = _flat(with_current_names(state["config"])), _flat(dataclasses.asdict(config))
    keys = sorted((saved.keys() | current.keys()) - _MAY_CHANGE)
    changes = [f"{k} {saved.get(k)!r} -> {current.get(k)!r}" for k in keys if saved.get(k) != current.get(k)]
    if changes:
        listed = ", ".join(changes)
        raise UserError(f"{path}: the run was begun with another config ({listed}); take the same, or another --out")
    return state


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def gather_random(sampler: dict[str, Tensor], accelerator: Accelerator) -> list[dict[str, Any]]:
    """Gather the random states of all processes: those of the ``sampler`` and of torch's generators."""
    state = {"sampler": sampler, "cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    return gather_object([state])


def restore_random(states: list[dict[str, Any]], accelerator: Accelerator, path: Path) -> dict[str, Tensor]:
    """Restore torch's generators from :func:`gather_random`, and return this process's sampler state.

    Raises UserError, naming ``path``, if the number of processes differs.
    """
    if len(states) != accelerator.num_processes:
        raise UserError(
            f"{path}: saved by {len(states)} processes; resume with as many, not {accelerator.num_processes}"
        )
    state = states[accelerator.process_index]
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], accelerator.device)
    return state["sampler"]
