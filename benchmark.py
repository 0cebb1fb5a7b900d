"""Time one training step of stage RF on this machine, and see where the time goes.

python benchmark.py [--batch 4] [--crop 256] [--device auto|cpu] [--repeats 3]

A step draws and deforms BATCH images of the embedded sample, matches and fuses their 2 x BATCH pairs both ways, and
updates both networks. Rows: "plain", the published network in float32 written out as the paper tells it (each direction
extracts its features anew, the scan is the reference, memory layout as it comes); then ours in float32 and in
bfloat16. All rows take turns, so that a machine whose speed drifts treats them alike; the median of REPEATS counts.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from datasets.crops import CropSampler
from models import SuperFusion
from models.gsam import DirectionalScan
from models.scan import scan_reference
from train import rf_step
from utils.config import Config
from utils.device import pick_device
from utils.errors import run

PARTS = ("draw", "matcher", "fusion", "warps and losses", "backward", "optimiser")


class EachDirectionAlone(nn.Module):
    """A matcher that shares nothing between the directions."""

    def __init__(self, matcher: nn.Module):
        super().__init__()
        self.matcher = matcher

    def forward(self, ir: Tensor, vi: Tensor, directions: tuple[str, ...]) -> dict[str, list[Tensor]]:
        return {direction: self.matcher(ir, vi, (direction,))[direction] for direction in directions}


def plain() -> SuperFusion:
    """The published network without any of our short cuts."""
    model = SuperFusion(published=True)
    for module in model.modules():
        if isinstance(module, DirectionalScan):
            module.scan = scan_reference
    model.matcher = EachDirectionAlone(model.matcher)
    return model


class Clock:
    """Adds up the seconds of named parts; waits for the device before it looks."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, defaultdict(float)
        self.last = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self, part: str) -> None:
        """Since the last call the time went into ``part``."""
        now = self._now()
        self.seconds[part] += now - self.last
        self.last = now

    def watch(self, module: nn.Module, part: str) -> None:
        """Count the forward passes of ``module`` as ``part``, what comes before them as warps and losses."""
        module.register_forward_pre_hook(lambda *_: self.lap("warps and losses"))
        module.register_forward_hook(lambda *_: self.lap(part))


def make_step(
    model: SuperFusion, bfloat16: bool, config: Config, sampler: CropSampler
) -> Callable[[], dict[str, float]]:
    """A function that trains ``model`` one step and gives the seconds of each of ``PARTS``."""
    device = sampler.device
    optimizer = torch.optim.Adam(model.train().to(device).parameters(), lr=config.train.lr)
    clock = Clock(device)
    clock.watch(model.matcher, "matcher")
    clock.watch(model.fusion, "fusion")

    def step() -> dict[str, float]:
        clock.seconds.clear()
        clock.lap("before")
        batch, _ = sampler.deformed(config.train.batch)
        clock.lap("draw")
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            terms = rf_step(model, batch, config)
        clock.lap("warps and losses")
        terms["total"].backward()
        clock.lap("backward")
        optimizer.step()
        optimizer.zero_grad()
        clock.lap("optimiser")
        return {part: clock.seconds[part] for part in PARTS}

    return step


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--crop", type=int, default=256, help="their side in pixels")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    for name, least in (("batch", 1), ("crop", 64), ("repeats", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}")

    device = pick_device(args.device)
    config = Config()
    config.data.sets, config.data.crop = {"sample": 1.0}, args.crop
    config.train.batch = config.train.fusion_batch = args.batch
    sampler = CropSampler(config.data, config.train.seed, device)
    fast = {"memory_format": torch.channels_last}
    steps = {
        "plain, float32": make_step(plain(), False, config, sampler),
        "ours, float32": make_step(SuperFusion().to(**fast), False, config, sampler),
        "ours, bfloat16": make_step(SuperFusion().to(**fast), True, config, sampler),
    }
    for step in steps.values():
        step()  # the first is slower: memory is made, kernels are chosen
    timings = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            timings[name].append(step())

    print(f"one RF step of {args.batch} images of {args.crop}x{args.crop}, both directions, on {device}; seconds")
    print(
        "| | " + " | ".join(PARTS) + " | **all** | samples/s | against plain |\n|---" + "|---:" * (len(PARTS) + 3) + "|"
    )
    medians = {
        name: {part: statistics.median(t[part] for t in rows) for part in PARTS}
        | {"all": statistics.median(sum(t.values()) for t in rows)}
        for name, rows in timings.items()
    }
    slowest = next(iter(medians.values()))["all"]
    for name, seconds in medians.items():
        cells = " | ".join(f"{seconds[part]:.2f}" for part in PARTS)
        total = seconds["all"]
        print(f"| {name} | {cells} | {total:.2f} | {args.batch / total:.2f} | {slowest / total:.1f} x |")


if __name__ == "__main__":
    run(main)
