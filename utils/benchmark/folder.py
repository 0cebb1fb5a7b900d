"""Time of a folder of pairs from file to file: where it goes, and what reading and writing beside computing gains."""

import tempfile
import time
from pathlib import Path

import torch

from datasets.paired import PairedFolders
from datasets.sample import SamplePairs
from models import Pipeline
from utils.benchmark.measure import markdown
from utils.files.images import write_image
from utils.jobs.pairs import Task, process, process_all, save

STEPS = ("read", "compute", "write")


def table(device: torch.device, mode: str, precision: str, count: int, sheets: bool, repeats: int) -> str:
    """Time ``count`` pairs of 640x480 in a ``mode`` of ``test.py``, both ways in turn; the least of ``repeats`` counts.

    Returns a Markdown table of seconds a pair, and of pairs a second.
    """
    pipeline = Pipeline.load(device=str(device), precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        pairs = _make(Path(folder), count)
        task = Task(mode, Path(folder) / "out", sheets=float("inf") if sheets else 0)
        one_by_one(pipeline, pairs.subset(pairs.names[:2]), task)
        turns = [(one_by_one(pipeline, pairs, task), overlapped(pipeline, pairs, task)) for _ in range(repeats)]
    steps = min((turn[0] for turn in turns), key=lambda steps: sum(steps.values()))
    serial, parallel = sum(steps.values()), min(turn[1] for turn in turns)
    header = ["seconds a pair", *STEPS, "all", "pairs/s", "x"]
    rows = [
        ["one after the other", *(f"{steps[step] / count:.3f}" for step in STEPS), *_speed(serial, count), "1.0"],
        ["at the same time", *[""] * len(STEPS), *_speed(parallel, count), f"{serial / parallel:.2f}"],
    ]
    return markdown(header, rows)


def one_by_one(pipeline: Pipeline, pairs: PairedFolders, task: Task) -> dict[str, float]:
    """Read, compute and write each pair before the next one; returns the seconds of each step."""
    seconds = dict.fromkeys(STEPS, 0.0)
    for index in range(len(pairs)):
        start = time.perf_counter()
        pair = pairs[index]
        read = time.perf_counter()
        processed = process(pipeline, pair, task)
        computed = time.perf_counter()
        save(processed, task)
        written = time.perf_counter()
        for step, taken in zip(STEPS, (read - start, computed - read, written - computed)):
            seconds[step] += taken
    return seconds


def overlapped(pipeline: Pipeline, pairs: PairedFolders, task: Task) -> float:
    """Do the same as ``test.py`` does it; returns the seconds from the first file to the last."""
    start, failures = time.perf_counter(), []
    results = process_all(
        pairs, lambda pair: process(pipeline, pair, task), lambda made, number: save(made, task, number), failures
    )
    assert sum(1 for _ in results) == len(pairs) and not failures, failures
    return time.perf_counter() - start


def _make(folder: Path, count: int) -> PairedFolders:
    """Write ``count`` pairs, the embedded sample's in turn, as PNGs."""
    sample = SamplePairs()
    for number in range(count):
        pair = sample[number % len(sample)]
        write_image(folder / "ir" / f"{number:04d}.png", pair.ir)
        write_image(folder / "vi" / f"{number:04d}.png", pair.vi)
    return PairedFolders(folder / "ir", folder / "vi")


def _speed(seconds: float, count: int) -> list[str]:
    return [f"{seconds / count:.3f}", f"{count / seconds:.2f}"]
