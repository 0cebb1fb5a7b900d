"""Seconds and memory of registering and fusing a pair: by path, size and device.

Every figure comes from a process of its own, so that a path's memory and settings are its own; the paths take turns,
so that a machine whose speed drifts treats them alike. The median over all turns counts.
"""

import statistics
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from datasets.sample import SamplePairs
from models import Pipeline, load_model
from models.forms import computed_as
from models.published import published_superfusion
from models.scan import backends_for, load_backend
from utils.benchmark.measure import in_new_process, markdown, peak_memory, seconds
from utils.benchmark.plain import PLAIN
from utils.memory import keep_freed_memory

HEADER = "path, scan, precision, batch, size, register s, fuse s, both s, pairs/s, peak MB, register x, fuse x, both x"


@dataclass(frozen=True)
class Way:
    """One way to run the networks; ``plain`` is the yardstick."""

    path: str  # plain, optimised or compiled
    scan: str
    precision: str


@dataclass(frozen=True)
class Task:
    """One measurement, made in a process of its own."""

    way: Way
    width: int
    height: int
    batch: int
    device: str
    network: str  # ours, or published with random weights
    max_side: int
    repeats: int


@dataclass(frozen=True)
class Result:
    """Seconds of each repeat, and megabytes."""

    register: list[float]
    fuse: list[float]
    memory: float


def ways(device: torch.device, all_scans: bool, compiled: bool) -> list[Way]:
    """The yardstick, the scan backends of ``device`` (or the fastest) in float32, less precision, and compiled."""
    backends = backends_for(device.type, torch.float32)[: None if all_scans else 1]
    reduced = {"cpu": ("bfloat16",), "mps": ("float16",), "cuda": ("bfloat16", "float16")}[device.type]
    found = [Way("plain", "reference", "float32")]
    found += [Way("optimised", scan, "float32") for scan in reversed(backends)]
    found += [Way("optimised", backends[0], precision) for precision in reduced]
    return found + [Way("compiled", backends[0], precision) for precision in ("float32", *reduced) if compiled]


def sample_pair(width: int, height: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """IR ``(B, 1, H, W)`` and VI ``(B, 3, H, W)``: a pair of the embedded sample, resized."""
    pair = SamplePairs()[0].in_vi_frame()
    images = (image[None].expand(batch, -1, -1, -1) for image in (pair.ir_warp, pair.vi))
    ir, vi = (F.interpolate(image, (height, width), mode="bilinear", align_corners=False) for image in images)
    return ir, vi


def measure(task: Task) -> Result:
    """Time one task in this process."""
    way, device = task.way, torch.device(task.device)
    torch.manual_seed(0)
    model = load_model() if task.network == "ours" else published_superfusion().eval()
    if way.path == "plain":
        model, forms = model.to(device), PLAIN
    else:
        keep_freed_memory()
        model = Pipeline(model, "matcher", way.precision, task.max_side, way.path == "compiled", device)
        forms = {"scan": load_backend(way.scan)}
    ir, vi = (image.to(device) for image in sample_pair(task.width, task.height, task.batch))
    with torch.inference_mode(), computed_as(forms):
        register = seconds(lambda: model.register(ir, vi), device, task.repeats)
        fuse = seconds(lambda: model.fuse(ir, vi), device, task.repeats)
    return Result(register, fuse, peak_memory(device))


def run(tasks: list[Task], turns: int) -> dict[Task, Result]:
    """Measure every task ``turns`` times, in turns."""
    results = {task: Result([], [], 0.0) for task in tasks}
    for _ in range(turns):
        for task, before in results.items():
            new = in_new_process(measure, task)
            results[task] = Result(
                before.register + new.register, before.fuse + new.fuse, max(before.memory, new.memory)
            )
    return results


def latency(result: Result) -> dict[str, float]:
    """Median seconds a batch."""
    register, fuse = statistics.median(result.register), statistics.median(result.fuse)
    return {"register": register, "fuse": fuse, "both": register + fuse}


def table(results: dict[Task, Result]) -> str:
    """A row for each task; "x" is how many times as fast as the plain path at the same size."""
    plain = {(task.width, task.height): latency(found) for task, found in results.items() if task.way.path == "plain"}
    rows = []
    for task, result in results.items():
        found, yardstick = latency(result), plain.get((task.width, task.height))
        ratios = [f"{yardstick[part] / found[part]:.1f}" if yardstick else "" for part in found]
        way = task.way
        rows.append(
            [way.path, way.scan, way.precision, str(task.batch), f"{task.width}x{task.height}"]
            + [f"{value:.3f}" for value in found.values()]
            + [f"{task.batch / found['both']:.2f}", f"{result.memory:.0f}", *ratios]
        )
    return markdown(HEADER.split(", "), rows)


def plot(results: dict[Task, Result], title: str) -> Figure:
    """Megapixels against the seconds of registering and of fusing, a line for each way."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = dict(zip(("register", "fuse"), figure.subplots(1, 2, sharey=True)))
    for way in dict.fromkeys(task.way for task in results):
        points = [
            (task.width * task.height / 1e6, latency(result)) for task, result in results.items() if task.way == way
        ]
        for part, panel in panels.items():
            label = f"{way.path}, {way.precision}, scan {way.scan}"
            panel.loglog([x for x, _ in points], [found[part] for _, found in points], "o-", label=label)
    for part, panel in panels.items():
        panel.set(title=part, xlabel="megapixels")
        panel.grid(True, which="both", alpha=0.3)
    panels["register"].set_ylabel("seconds")
    panels["register"].legend(fontsize=8)
    figure.suptitle(title)
    return figure
