"""Timing on any device, and the peak memory of a process of its own."""

import math
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def seconds(function: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Time ``function`` on ``device`` ``repeats`` times, after one call that makes memory and chooses kernels."""
    timings = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        timings.append(time.perf_counter() - start)
    return timings[1:]


def peak_memory(device: torch.device) -> float:
    """The most memory in MB that this process has held so far: of a CUDA device its tensors, else everything. NaN on
    Windows, which does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose getrusage begins a process with what its parent had
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return math.nan
    import resource  # there is none on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def alone(function: Callable, *args) -> Any:
    """What ``function(*args)`` gives in a new process, whose memory and settings are its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
