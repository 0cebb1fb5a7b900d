"""Measure time and memory of registering and fusing a pair, by path, size and device.

Every measurement runs in its own process, so that no path shares memory or settings with another; the paths are
interleaved, so that a drift of the machine's speed affects all alike. Times are medians over all turns.
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
class Variant:
    """One way to run the networks; the path ``plain`` is the baseline."""

    path: str  # plain, optimised or compiled
    scan: str
    precision: str


@dataclass(frozen=True)
class Task:
    """One measurement, made in its own process."""

    variant: Variant
    width: int
    height: int
    batch: int
    device: str
    network: str  # ours, or published with random weights
    max_side: int
    repeats: int


@dataclass(frozen=True)
class Result:
    """Seconds of each repeat, and peak memory in megabytes."""

    register: list[float]
    fuse: list[float]
    memory: float


def variants(device: torch.device, all_scans: bool, compiled: bool) -> list[Variant]:
    """List the baseline, the scan backends of ``device`` (or the fastest), lower precisions, and compiled variants."""
    backends = backends_for(device.type, torch.float32)[: None if all_scans else 1]
    reduced = {"cpu": ("bfloat16",), "mps": ("float16",), "cuda": ("bfloat16", "float16")}[device.type]
    listed = [Variant("plain", "reference", "float32")]
    listed += [Variant("optimised", scan, "float32") for scan in reversed(backends)]
    listed += [Variant("optimised", backends[0], precision) for precision in reduced]
    return listed + [Variant("compiled", backends[0], precision) for precision in ("float32", *reduced) if compiled]


def sample_pair(width: int, height: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return IR ``(B, 1, H, W)`` and VI ``(B, 3, H, W)``: a resized pair of the embedded sample."""
    pair = SamplePairs()[0].in_vi_frame()
    images = (image[None].expand(batch, -1, -1, -1) for image in (pair.ir_warp, pair.vi))
    ir, vi = (F.interpolate(image, (height, width), mode="bilinear", align_corners=False) for image in images)
    return ir, vi


def measure(task: Task) -> Result:
    """Time one task in this process."""
    variant, device = task.variant, torch.device(task.device)
    torch.manual_seed(0)
    model = load_model() if task.network == "ours" else published_superfusion().eval()
    if variant.path == "plain":
        model, forms = model.to(device), PLAIN
    else:
        keep_freed_memory()
        forms = {"scan": load_backend(variant.scan)}
        if variant.scan != "numba":
            forms |= {"fastest": lambda convolution: convolution}  # as without numba
        with computed_as(forms):
            model = Pipeline(model, "matcher", variant.precision, task.max_side, variant.path == "compiled", device)
    ir, vi = (image.to(device) for image in sample_pair(task.width, task.height, task.batch))
    with torch.inference_mode(), computed_as(forms):
        register = seconds(lambda: model.register(ir, vi), device, task.repeats)
        fuse = seconds(lambda: model.fuse(ir, vi), device, task.repeats)
    return Result(register, fuse, peak_memory(device))


def run(tasks: list[Task], turns: int) -> dict[Task, Result]:
    """Measure every task ``turns`` times, interleaved."""
    results = {task: Result([], [], 0.0) for task in tasks}
    for _ in range(turns):
        for task, before in results.items():
            new = in_new_process(measure, task)
            results[task] = Result(
                before.register + new.register, before.fuse + new.fuse, max(before.memory, new.memory)
            )
    return results


def latency(result: Result) -> dict[str, float]:
    """Return the median seconds per batch, by operation."""
    register, fuse = statistics.median(result.register), statistics.median(result.fuse)
    return {"register": register, "fuse": fuse, "both": register + fuse}


def table(results: dict[Task, Result]) -> str:
    """Format a row per task; "x" is the speed-up over the plain path at the same size."""
    plain = {
        (task.width, task.height): latency(times) for task, times in results.items() if task.variant.path == "plain"
    }
    rows = []
    for task, result in results.items():
        times, baseline = latency(result), plain.get((task.width, task.height))
        ratios = [f"{baseline[part] / times[part]:.1f}" if baseline else "" for part in times]
        variant = task.variant
        rows.append(
            [variant.path, variant.scan, variant.precision, str(task.batch), f"{task.width}x{task.height}"]
            + [f"{value:.3f}" for value in times.values()]
            + [f"{task.batch / times['both']:.2f}", f"{result.memory:.0f}", *ratios]
        )
    return markdown(HEADER.split(", "), rows)


def plot(results: dict[Task, Result], title: str) -> Figure:
    """Plot the seconds of registering and of fusing against megapixels, one line per variant."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = dict(zip(("register", "fuse"), figure.subplots(1, 2, sharey=True)))
    for variant in dict.fromkeys(task.variant for task in results):
        points = [
            (task.width * task.height / 1e6, latency(result))
            for task, result in results.items()
            if task.variant == variant
        ]
        for part, panel in panels.items():
            label = f"{variant.path}, {variant.precision}, scan {variant.scan}"
            panel.loglog([x for x, _ in points], [times[part] for _, times in points], "o-", label=label)
    for part, panel in panels.items():
        panel.set(title=part, xlabel="megapixels")
        panel.grid(True, which="both", alpha=0.3)
    panels["register"].set_ylabel("seconds")
    panels["register"].legend(fontsize=8)
    figure.suptitle(title)
    return figure
