"""Measure time on any device, and the peak memory of a process."""

import math
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Warm-up ends after this many calls, or after this many seconds.
_WARM_UP = 8
_LONG = 5.0


def seconds(function: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Time ``function`` on ``device`` ``repeats`` times, after warm-up calls."""

    def once() -> float:
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - start

    warm_up = [once()]
    while len(warm_up) < _WARM_UP and sum(warm_up) < _LONG:
        warm_up.append(once())
    return [once() for _ in range(repeats)]


def peak_memory(device: torch.device) -> float:
    """Return the peak memory of this process in MB: of its tensors on a CUDA device, else of everything.

    NaN on Windows, which does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage starts from the parent's peak
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return math.nan
    import resource  # not available on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def in_new_process(function: Callable, *args) -> Any:
    """Call ``function(*args)`` in a new process, which has its own memory and settings, and return the result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table, its first column left-aligned and the others right-aligned."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
