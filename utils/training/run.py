"""A training run and its folder: save, restore, validate, and keep the best weights."""

import dataclasses
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from models.weights import save_checkpoint
from utils.figures.curves import course
from utils.files.results import write_csv
from utils.files.writing import check_writable, write_bytes
from utils.training.config import Config
from utils.training.log import Log
from utils.training.stages.base import Stage
from utils.training.state import Progress, gather_random, restore_random, save_state


class Run:
    """A training run: its stage, weights, optimiser and ``progress``, and the folder ``out`` where they are saved.

    All processes call the methods; only the main process writes. Raises UserError if ``out`` cannot be written.
    """

    def __init__(
        self,
        out: Path,
        config: Config,
        accelerator: Accelerator,
        stage: Stage,
        average: AveragedModel,
        optimizer: Optimizer,
    ):
        self.out, self.config, self.accelerator, self.stage = out, config, accelerator, stage
        self.average, self.progress = average, Progress()
        # Everything with a state dictionary; random states and the progress are saved separately.
        self.parts: dict[str, Any] = {"network": stage.network, "average": average, "optimizer": optimizer}
        if accelerator.scaler is not None:
            self.parts["scaler"] = accelerator.scaler
        if accelerator.is_main_process:
            check_writable(out)
            for leftover in out.glob(".*.tmp"):  # of a run that was killed while saving
                leftover.unlink()

    @property
    def state_file(self) -> Path:
        return self.out / "state.pt"

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state of :func:`utils.training.state.load_state`, saved by the same number of processes."""
        self.progress = Progress(**state["position"])
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.stage.sampler.restore(restore_random(state["random"], self.accelerator, self.state_file))

    def save(self) -> None:
        """Write the full state, and the averaged weights as last.safetensors."""
        random = gather_random(self.stage.sampler.state(), self.accelerator)
        if self.accelerator.is_main_process:
            states = {name: part.state_dict() for name, part in self.parts.items()}
            position = dataclasses.asdict(self.progress)
            save_state(self.state_file, self.config, position=position, random=random, **states)
            self._write_weights("last")

    def validate(self, log: Log) -> None:
        """Score the averaged weights on the validation pairs; write the scores, and best.safetensors if they improved.

        Without validation pairs nothing is written.
        """
        progress, stage = self.progress, self.stage
        if self.accelerator.is_main_process and stage.pairs:
            scores, pictures = stage.validate(self.average.module)
            progress.validations.append({"step": progress.step, "minutes": round(progress.minutes, 2)} | scores)
            log.write({f"validation/{name}": value for name, value in scores.items()}, progress.step, pictures)
            tqdm.write(f"step {progress.step}: " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
            write_csv(self.out / "validation.csv", progress.validations)
            write_bytes(self.out / "validation.png", course({self.out.name: progress.validations}))
            score = -scores[stage.best] if stage.lower_is_better else scores[stage.best]
            if score > progress.best:
                progress.best = score
                self._write_weights("best")
        progress.validated = progress.step
        self.accelerator.wait_for_everyone()

    def _write_weights(self, name: str) -> None:
        progress = self.progress
        about = {"recipe": dataclasses.asdict(self.config), "step": progress.step, "minutes": progress.minutes}
        about["validation"] = progress.validations[-1:]
        save_checkpoint(self.out / f"{name}.safetensors", self.average.module, **about)
