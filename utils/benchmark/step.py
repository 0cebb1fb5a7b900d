"""Time one training step of stages RF and R by parts: the plain network against ours."""

import copy
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
from utils.training.stages.r import r_step
from utils.training.stages.rf import rf_step

PARTS = ("draw", "matcher", "fusion", "warps and losses", "backward", "optimiser")

# Seconds of each of PARTS in one step, each part waited for, and two of a step that nothing waits in: "free", the whole
# step, and "host", until all its work was queued on the device.
Seconds = dict[str, float]

# The other columns of the table: seconds of a step, shares of drawing and of the host, images per second, speed-up.
WHOLE = ("whole step", "draw share", "host share", "samples/s", "x")

STEPS = {"R": r_step, "RF": rf_step}


class Clock:
    """Sum the seconds of named parts; while ``running``, the device is synchronised before each reading."""

    def __init__(self, device: torch.device):
        self.device, self.seconds, self.running = device, defaultdict(float), True
        self.last = self.now()

    def now(self) -> float:
        """Return the time once the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self, part: str) -> None:
        """Count the time since the last call as ``part``."""
        if self.running:
            now = self.now()
            self.seconds[part] += now - self.last
            self.last = now

    def watch(self, module: nn.Module, part: str) -> None:
        """Count the forward passes of ``module`` as ``part``, and the time before them as "warps and losses"."""
        module.register_forward_pre_hook(lambda *_: self.lap("warps and losses"))
        module.register_forward_hook(lambda *_: self.lap(part))


def make_step(
    stage: str, model: SuperFusion, config: Config, sampler: CropSampler, forms: Mapping[str, Callable], bfloat16: bool
) -> Callable[[], Seconds]:
    """Make a function that trains ``model`` in ``stage`` for two steps, with the operations in ``forms``, timed."""
    device = sampler.device
    trained = model.train().to(device) if stage == "RF" else model.train().to(device).matcher
    optimizer = torch.optim.Adam(trained.parameters(), lr=config.train.lr)
    clock = Clock(device)
    clock.watch(model.matcher, "matcher")
    clock.watch(model.fusion, "fusion")

    def step() -> None:
        batch, _ = sampler.deformed(config.train.batch, counterparts=stage == "RF")
        clock.lap("draw")
        with computed_as(forms), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            terms = STEPS[stage](model, batch, config)
        clock.lap("warps and losses")
        terms["total"].backward()
        clock.lap("backward")
        optimizer.step()
        optimizer.zero_grad()
        clock.lap("optimiser")

    def timed() -> Seconds:
        clock.seconds.clear()
        clock.running = True
        clock.lap("before")
        step()
        clock.running, start = False, clock.now()
        step()
        host = time.perf_counter() - start
        return {part: clock.seconds[part] for part in PARTS} | {"host": host, "free": clock.now() - start}

    return timed


def measure(device: torch.device, batch: int, crop: int, repeats: int) -> dict[str, list[Seconds]]:
    """Time ``repeats`` steps of ``batch`` crops of ``crop`` pixels for each row, interleaved, the plain one first.

    Plain is the published network with the operations of :mod:`utils.benchmark.plain`, one direction at a time.
    """
    keep_freed_memory()  # as train.py does
    config = Config()
    config.data.sets, config.data.crop = {"toy": 1.0}, crop
    config.train.batch = config.train.fusion_batch = batch
    alone = copy.deepcopy(config)
    alone.loss["photometric"] = 0.0
    sampler = CropSampler(config.data, config.train.seed, device)
    plain = published_superfusion()
    plain.matcher = SeparateDirections(plain.matcher)

    def ours(stage: str, settings: Config, bfloat16: bool) -> Callable[[], Seconds]:
        model = SuperFusion().to(memory_format=torch.channels_last)
        return make_step(stage, model, settings, sampler, {}, bfloat16)

    steps = {
        "RF, plain, float32": make_step("RF", plain, config, sampler, PLAIN, bfloat16=False),
        "RF, float32": ours("RF", config, bfloat16=False),
        "RF, bfloat16": ours("RF", config, bfloat16=True),
        "R, float32": ours("R", alone, bfloat16=False),
        "R, bfloat16": ours("R", alone, bfloat16=True),
    }
    for step in steps.values():
        step()  # warm-up: memory is allocated, kernels are selected
    timings = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            timings[name].append(step())
    return timings


def table(timings: dict[str, list[Seconds]], batch: int) -> str:
    """Format the median seconds of each part, and of a whole step that nothing waits in.

    "draw share" is that of drawing in the sum of the parts; "host share" that of the whole step until all its work was
    queued; "x" is the speed-up over the first row.
    """
    medians = {
        name: {part: statistics.median(step[part] for step in steps) for part in (*PARTS, "host", "free")}
        for name, steps in timings.items()
    }
    slowest = next(iter(medians.values()))["free"]
    rows = []
    for name, step in medians.items():
        draw, host = step["draw"] / sum(step[part] for part in PARTS), step["host"] / step["free"]
        rows.append(
            [name, *(f"{step[part]:.3f}" for part in PARTS), f"{step['free']:.3f}", f"{draw:.0%}", f"{host:.0%}"]
            + [f"{batch / step['free']:.2f}", f"{slowest / step['free']:.1f}"]
        )
    return markdown(["", *PARTS, *WHOLE], rows)
