"""Time one training step of stage RF by parts: the plain network against ours."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import nn

from datasets.crops import CropSampler
from models import SuperFusion
from models.forms import computed_as
from models.published import published_superfusion
from utils.benchmark.measure import markdown
from utils.benchmark.plain import PLAIN, SeparateDirections
from utils.memory import keep_freed_memory
from utils.training.config import Config
from utils.training.stages.rf import rf_step

PARTS = ("draw", "matcher", "fusion", "warps and losses", "backward", "optimiser")

# Seconds of each of PARTS, in one step.
Seconds = dict[str, float]


class Clock:
    """Sum the seconds of named parts; the device is synchronised before each reading."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, defaultdict(float)
        self.last = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self, part: str) -> None:
        """Count the time since the last call as ``part``."""
        now = self._now()
        self.seconds[part] += now - self.last
        self.last = now

    def watch(self, module: nn.Module, part: str) -> None:
        """Count the forward passes of ``module`` as ``part``, and the time before them as "warps and losses"."""
        module.register_forward_pre_hook(lambda *_: self.lap("warps and losses"))
        module.register_forward_hook(lambda *_: self.lap(part))


def make_step(
    model: SuperFusion, config: Config, sampler: CropSampler, forms: Mapping[str, Callable], bfloat16: bool
) -> Callable[[], Seconds]:
    """Make a function that trains ``model`` for one step, with the operations in ``forms``, and times its parts."""
    device = sampler.device
    optimizer = torch.optim.Adam(model.train().to(device).parameters(), lr=config.train.lr)
    clock = Clock(device)
    clock.watch(model.matcher, "matcher")
    clock.watch(model.fusion, "fusion")

    def step() -> Seconds:
        clock.seconds.clear()
        clock.lap("before")
        batch, _ = sampler.deformed(config.train.batch)
        clock.lap("draw")
        with computed_as(forms), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            terms = rf_step(model, batch, config)
        clock.lap("warps and losses")
        terms["total"].backward()
        clock.lap("backward")
        optimizer.step()
        optimizer.zero_grad()
        clock.lap("optimiser")
        return {part: clock.seconds[part] for part in PARTS}

    return step


def measure(device: torch.device, batch: int, crop: int, repeats: int) -> dict[str, list[Seconds]]:
    """Time ``repeats`` steps of ``batch`` crops of ``crop`` pixels for each network, interleaved, the plain one first.

    Plain is the published network with the operations of :mod:`utils.benchmark.plain`, one direction at a time.
    """
    keep_freed_memory()  # as train.py does
    config = Config()
    config.data.sets, config.data.crop = {"toy": 1.0}, crop
    config.train.batch = config.train.fusion_batch = batch
    sampler = CropSampler(config.data, config.train.seed, device)
    plain = published_superfusion()
    plain.matcher = SeparateDirections(plain.matcher)
    float32, bfloat16 = (SuperFusion().to(memory_format=torch.channels_last) for _ in range(2))
    steps = {
        "plain, float32": make_step(plain, config, sampler, PLAIN, bfloat16=False),
        "ours, float32": make_step(float32, config, sampler, {}, bfloat16=False),
        "ours, bfloat16": make_step(bfloat16, config, sampler, {}, bfloat16=True),
    }
    for step in steps.values():
        step()  # warm-up: memory is allocated, kernels are selected
    timings = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            timings[name].append(step())
    return timings


def table(timings: dict[str, list[Seconds]], batch: int) -> str:
    """Format the median seconds of each part; "x" is the speed-up over the first row."""
    totals = {name: statistics.median(sum(step.values()) for step in steps) for name, steps in timings.items()}
    slowest = next(iter(totals.values()))
    rows = []
    for name, steps in timings.items():
        parts = [f"{statistics.median(step[part] for step in steps):.2f}" for part in PARTS]
        total = totals[name]
        rows.append([name, *parts, f"{total:.2f}", f"{batch / total:.2f}", f"{slowest / total:.1f}"])
    return markdown(["", *PARTS, "all", "samples/s", "x"], rows)
