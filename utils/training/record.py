"""The values of the latest steps, kept on the device until they are read all at once."""

import math
import time
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError
from utils.training.log import Log


class Record:
    """Keep the loss terms and gradient norms of the steps since the last :meth:`flush`, then check and log them.

    Reading a value makes the host wait for the device, which then has nothing to do; so it happens once for many steps.
    ``names`` are those of all images; each of ``processes`` draws as many; ``state_file`` is named in errors; where
    ``may_overflow`` is set (float16), a gradient norm need not be finite.
    """

    def __init__(self, log: Log, names: list[str], state_file: Path, processes: int, may_overflow: bool):
        self.log, self.names, self.state_file = log, names, state_file
        self.processes, self.may_overflow = processes, may_overflow
        self.kept: list[tuple[int, float, list[str], Tensor, Tensor]] = []
        self.since = time.perf_counter()

    def add(self, step: int, rate: float, terms: dict[str, Tensor], norm: Tensor | None, picked: Tensor) -> None:
        """Keep what ``step`` computed on the images ``picked``: its ``terms``, and its gradient's norm if complete."""
        values = {name: term.detach() for name, term in terms.items()}
        if norm is not None:
            values["gradient_norm"] = norm
        self.kept.append((step, rate, list(values), torch.stack(list(values.values())).float(), picked))

    def flush(self) -> dict[str, float]:
        """Log the kept steps; return the total loss of the last one and the samples per second, or nothing for none.

        Raises UserError for the first value that is not finite.
        """
        if not self.kept:
            return {}
        # One transfer, since each one waits for the device.
        rows = torch.cat([values for *_, values, _ in self.kept]).tolist()
        samples = sum(len(picked) for *_, picked in self.kept) * self.processes
        speed = samples / (time.perf_counter() - self.since)
        self.since = time.perf_counter()
        for step, rate, names, values, picked in self.kept:
            row, rows = dict(zip(names, rows)), rows[len(values) :]
            self._check(row, step, picked)
            if "gradient_norm" in row:  # the last batch of a step
                others = {"learning_rate": rate, "gradient_norm": row.pop("gradient_norm"), "samples_per_second": speed}
                self.log.write({f"loss/{name}": value for name, value in row.items()} | others, step + 1)
        self.kept = []
        return {"total": row["total"], "samples_per_second": speed}

    def _check(self, row: dict[str, float], step: int, picked: Tensor) -> None:
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if self.may_overflow and "gradient_norm" in bad:
            bad.remove("gradient_norm")  # the scaler skips such a step
        if bad:
            what = "the gradient's norm" if bad[0] == "gradient_norm" else bad[0]
            images = ", ".join(self.names[i] for i in picked.tolist())
            raise UserError(
                f"step {step}: {what} is {row[bad[0]]} on a batch of {images}; stopped, with {self.state_file} as it "
                "was saved last; a lower train.lr or a smaller weight of that term may help"
            )
