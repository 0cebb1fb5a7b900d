"""Time one scan layer by backend, dtype and image size; the time must be proportional to the number of pixels.

The baseline of memory traffic is a copy, in the same process, of as many bytes as the scan must move: it reads its
input once and writes its output once, which is four times as large.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from models.scan import backends_for, load_backend
from utils.benchmark.measure import markdown, seconds
from utils.memory import keep_freed_memory

CHANNELS = 32
HEADER = "scan, type, size, forward ms, ns/pixel, GB/s, copy GB/s, forward x, backward ms, backward x"


@dataclass(frozen=True)
class Speed:
    """Milliseconds per pass, and bytes per second of the scan and of a copy."""

    forward: float
    backward: float
    bandwidth: float
    copy_bandwidth: float


def measure(device: torch.device, dtype: torch.dtype, width: int, height: int, repeats: int) -> dict[str, Speed]:
    """Time every backend of ``device`` on one ``(1, 32, height, width)`` tensor in channels_last memory."""
    keep_freed_memory()
    torch.manual_seed(0)
    x = torch.randn(1, CHANNELS, height, width, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.full((4, CHANNELS), 0.2, device=device, requires_grad=True)
    bias = torch.zeros(4, CHANNELS, device=device, requires_grad=True)
    moved = 5 * x.numel() * x.element_size()
    source = torch.empty(moved // 2, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    copied = statistics.median(seconds(lambda: target.copy_(source), device, repeats))
    speeds = {}
    for name in backends_for(device.type, dtype):
        scan = load_backend(name)
        with torch.inference_mode():
            forward = statistics.median(seconds(lambda: scan(x, weight, bias), device, repeats))  # noqa: B023
        inputs = (x.detach().requires_grad_(), weight, bias)
        out = scan(*inputs)
        grad = torch.randn_like(out)
        backward = seconds(lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True), device, repeats)  # noqa: B023
        speeds[name] = Speed(forward * 1e3, statistics.median(backward) * 1e3, moved / forward, moved / copied)
    return speeds


def measure_all(
    device: torch.device, widths: Sequence[int], height: int, repeats: int
) -> dict[tuple[torch.dtype, int, int], dict[str, Speed]]:
    """Measure float32 and bfloat16 at each of ``widths``; by (dtype, width, height)."""
    return {
        (dtype, width, height): measure(device, dtype, width, height, repeats)
        for dtype in (torch.float32, torch.bfloat16)
        for width in widths
    }


def table(results: dict[tuple[torch.dtype, int, int], dict[str, Speed]]) -> str:
    """Format a row per (dtype, width, height) and backend; "x" is the speed-up over the reference."""
    rows = []
    for (dtype, width, height), speeds in results.items():
        for name, speed in speeds.items():
            rows.append(
                [name, str(dtype).removeprefix("torch."), f"{width}x{height}", f"{speed.forward:.1f}"]
                + [f"{speed.forward * 1e6 / (width * height):.1f}"]
                + [f"{value / 1e9:.3g}" for value in (speed.bandwidth, speed.copy_bandwidth)]
                + [f"{speeds['reference'].forward / speed.forward:.1f}", f"{speed.backward:.1f}"]
                + [f"{speeds['reference'].backward / speed.backward:.1f}"]
            )
    return markdown(HEADER.split(", "), rows)


def plot(results: dict[tuple[torch.dtype, int, int], dict[str, Speed]], title: str) -> Figure:
    """Plot the milliseconds of the forward pass against megapixels, one line per backend and dtype."""
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    panel = figure.subplots()
    lines: dict[str, list[tuple[float, float]]] = {}
    for (dtype, width, height), speeds in results.items():
        for name, speed in speeds.items():
            label = f"{name}, {str(dtype).removeprefix('torch.')}"
            lines.setdefault(label, []).append((width * height / 1e6, speed.forward))
    for label, points in lines.items():
        panel.loglog(*zip(*points), "o-", label=label)
    panel.set(title=title, xlabel="megapixels", ylabel="milliseconds, forward")
    panel.grid(True, which="both", alpha=0.3)
    panel.legend(fontsize=8)
    return figure
