"""One report for a machine with a GPU: its tests, its speed, and what a few minutes of training on it are worth."""

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import torch

from models import load_model
from utils.benchmark import inference, scan, step
from utils.benchmark.measure import markdown
from utils.errors import UserError
from utils.files.writing import check_writable, write_file
from utils.training.config import Config, load_config
from utils.training.validation import registration_scores, validation_pairs

_ROOT = Path(__file__).parents[2]
CONFIG = "configs/r_mixed.yaml"


@dataclass(frozen=True)
class Sizes:
    """How large the measurements of a report are."""

    image: tuple[int, int]  # width, height
    batches: tuple[int, ...]  # of inference
    widths: tuple[int, ...]  # of the scan
    step: tuple[int, int]  # batch and crop of a training step
    repeats: int
    settings: tuple[str, ...]  # of the training run
    tests: str  # file or folder


FULL = Sizes((640, 480), (1, 16), (640, 1280), (16, 192), 5, (), "tests")
# On a CPU in about a minute, without data files, to show that the command works.
SMOKE = Sizes(
    (64, 48),
    (1,),
    (32,),
    (2, 64),
    1,
    (
        *("data.sets={toy: 1.0}", "data.ir_sets={}", "data.val=[]", "data.hold_out=0.34", "data.scale=0.25"),
        *("data.crop=64", "curriculum={}", "train.batch=2", "train.precision=float32", "train.steps=4"),
    ),
    "tests/datasets/test_augment.py",
)


def write_report(device: torch.device, out: Path, root: str, minutes: float, smoke: bool) -> str:
    """Run everything on ``device``; write the report gpu.md, and the run of training, to ``out``; return the report.

    ``root`` is the data's root and ``minutes`` the time for training. Raises UserError if the data is missing, if
    the training fails, or if ``out`` cannot be written or holds a run.
    """
    sizes, assignments = (SMOKE if smoke else FULL), (f"data.root={root}", f"train.minutes={minutes}")
    if smoke:
        assignments += SMOKE.settings
    config = load_config(_ROOT / CONFIG, assignments)
    check_writable(out)
    parts = {
        "Machine": lambda: machine(device),
        "Tests": lambda: tests(sizes, out),
        f"{minutes:g} minutes of stage R": lambda: training(device, config, assignments, out),
        f"A training step, batch {sizes.step[0]}, crop {sizes.step[1]}": lambda: step_table(device, sizes),
        "The scan": lambda: scan_table(device, sizes),
        f"Inference, {sizes.image[0]}x{sizes.image[1]}": lambda: inference_table(device, sizes),
    }
    text = "# A GPU report\n\nWritten by `python benchmark.py gpu`.\n"
    for title, part in parts.items():
        start = time.perf_counter()
        body = part()
        seconds = time.perf_counter() - start
        text += f"\n## {title}\n\n{body}\n\n({seconds:.0f} s)\n"
        write_file(out / "gpu.md", partial(_write, text))  # after each part, so that a failure keeps the others
        print(text[text.rindex("\n## ") :], flush=True)
    return text


def _write(text: str, file: IO[bytes]) -> None:
    file.write(text.encode())


def machine(device: torch.device) -> str:
    """Describe the device and the versions that are measured."""
    facts = [f"torch {torch.__version__}, Python {sys.version.split()[0]}"]
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        facts.insert(0, f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
        facts.append(f"cuDNN {torch.backends.cudnn.version()}")
    else:
        facts.insert(0, f"no GPU: {torch.get_num_threads()} threads of a CPU")
    return "; ".join(facts)


def tests(sizes: Sizes, out: Path) -> str:
    """Run the tests that compute on a GPU and summarise them; their log is OUT/tests.txt."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-rs", "-p", "no:cacheprovider", sizes.tests]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    write_file(out / "tests.txt", partial(_write, ran.stdout + ran.stderr))
    summary = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else "pytest did not start"
    return f"`python -m pytest -m gpu`: {summary}"


def inference_table(device: torch.device, sizes: Sizes) -> str:
    """Time registering and fusing by path and precision, one batch size after another."""
    width, height = sizes.image
    tables = []
    for batch in sizes.batches:
        tasks = [
            inference.Task(variant, width, height, batch, str(device), "ours", 1024, sizes.repeats)
            for variant in inference.variants(device, all_scans=False, compiled=False)
        ]
        tables.append(inference.table(inference.run(tasks, turns=1)))
    return "\n\n".join(tables)


def scan_table(device: torch.device, sizes: Sizes) -> str:
    """Time the scan's backends, and compare their bandwidth with that of a copy."""
    return scan.table(scan.measure_all(device, sizes.widths, 480, sizes.repeats))


def step_table(device: torch.device, sizes: Sizes) -> str:
    """Time a training step of stages RF and R."""
    batch, crop = sizes.step
    return step.table(step.measure(device, batch, crop, sizes.repeats), batch)


def training(device: torch.device, config: Config, assignments: tuple[str, ...], out: Path) -> str:
    """Train stage R from the weights of its config; compare them with the best on each validation set."""
    before = validate(config, config.train.init, device)
    command = [sys.executable, "train.py", "--config", CONFIG, "--out", str(out.resolve() / "run")]
    for assignment in assignments:
        command += ["--set", assignment]
    ran = subprocess.run([*command, "--device", str(device)], cwd=_ROOT)
    if ran.returncode:
        raise UserError("train.py failed, see above; the other parts of the report are kept")
    after = validate(config, out / "run" / "best.safetensors", device)
    rows = [
        [name, *(f"{scores[name][protocol]:.2f}" for protocol in before[name] for scores in (before, after))]
        for name in before
    ]
    header = ["set", "official, before", "after", "band-free, before", "after"]
    return f"EPE in pixels of the network alone, from {config.train.init}:\n\n{markdown(header, rows)}"


def validate(config: Config, weights: str | Path, device: torch.device) -> dict[str, dict[str, float]]:
    """Return the validation scores of ``weights`` on each set of ``config``."""
    model = load_model(_ROOT / weights).to(device)
    data, scores = config.data, {}
    for name in [*data.val] or [*data.sets]:
        one = replace(data, val=[name] if data.val else [], sets={} if data.val else data.sets)
        scores[name] = registration_scores(model, validation_pairs(one, labels=False), device)
    return scores
