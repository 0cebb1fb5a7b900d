"""Give the scripts hundreds of bad and odd inputs, kill them at random moments, let writing fail, and tell what became.

python -m tests.reliability.campaign                      everything: some minutes on one core
python -m tests.reliability.campaign --kills 4 --every 10     a tenth of the inputs, four kills

Each case runs in a process of its own. A case is right if it ends in one of the exit codes it should, without a
traceback, every line of an error named as such; if no input changed; if every file of the results is whole; and if the
good pair beside the odd one is done. Prints a table in Markdown; the exit code is 1 if a case is not right.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

import evaluate
import test as test_script
import train
from tests.reliability.inputs import GOOD, Case, all_cases, folders, good_pair, training
from utils.errors import run
from utils.files.checkpoint import read_weights

SCRIPTS = {"test": test_script.main, "evaluate": evaluate.main, "train": train.main}
_LIMIT = 600  # seconds that a case may take, on a machine however busy


@dataclass
class Outcome:
    """What became of a case: its exit code (negative: the signal that ended it), what it said, and what is wrong."""

    kind: str
    name: str
    code: int
    said: str
    wrong: list[str] = field(default_factory=list)


class Process:
    """A ``script`` in a process of its own, in ``folder``; ``limit``: bytes of the largest file that it may write."""

    def __init__(self, script: str, arguments: list[str], folder: Path, limit: int | None = None):
        self.errors, write = os.pipe()
        self.id = os.fork()
        if self.id:
            os.close(write)
            return
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(write, 2)
            # As Python's own.
            sys.stdout, sys.stderr = (open(n, "w", buffering=1, errors="backslashreplace") for n in (1, 2))
            os.chdir(folder)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            run(lambda _: SCRIPTS[script](arguments))
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait(self, seconds: float = _LIMIT) -> tuple[int, str]:
        """Wait for the end, or end it after so many seconds; returns the exit code, or minus the signal, and what it
        said on standard error, of which a pipe holds 64 KiB.
        """
        end = time.monotonic() + seconds
        done, status = 0, 0
        while not done and time.monotonic() < end:
            time.sleep(0.002)
            done, status = os.waitpid(self.id, os.WNOHANG)
        if not done:
            os.kill(self.id, signal.SIGKILL)
            _, status = os.waitpid(self.id, 0)
        with open(self.errors, "rb") as errors:
            return os.waitstatus_to_exitcode(status), errors.read().decode(errors="backslashreplace")


def contents(folder: Path) -> dict[str, str]:
    """The files below a folder, and what they hold."""
    files = filter(Path.is_file, folder.rglob("*"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def broken(out: Path) -> list[str]:
    """The files of a result folder that are not whole."""
    wrong = []
    for path in filter(Path.is_file, out.rglob("*")):
        try:
            if path.suffix == ".png":
                whole = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), -1) is not None
            elif path.suffix == ".json":
                whole = bool(json.loads(path.read_text()))
            elif path.suffix == ".csv":
                whole = (
                    len({len(row) for row in csv.reader(io.StringIO(path.read_text(errors="surrogateescape")))}) == 1
                )
            elif path.suffix == ".safetensors":
                whole = bool(read_weights(path))
            elif path.suffix == ".pt":
                whole = bool(torch.load(path, weights_only=True))
            else:
                whole = path.suffix not in (".tmp",)
        except Exception:  # a file that is not whole raises a dozen unrelated kinds
            whole = False
        if not whole:
            wrong.append(f"{path.name} is not whole")
    return wrong


def judged(case: Case, folder: Path, before: dict[str, str], process: Process) -> Outcome:
    """Say what is wrong with what became of a case."""
    code, text = process.wait()
    outcome = Outcome(case.kind, case.name, code, text)
    if code not in case.expects:
        outcome.wrong.append(f"exit code {code}")
    if "Traceback" in text or "Warning:" in text:
        outcome.wrong.append("a traceback or a warning of a library")
    if code == 2 and "error: " not in text:
        outcome.wrong.append("no word")
    after = contents(folder)
    if any(after.get(name) != content for name, content in before.items()):
        outcome.wrong.append("an input was changed")
    if (folder / "owned").exists():
        outcome.wrong.append("code was run")
    if case.kind != "output is input" and case.script != "train":
        outcome.wrong += broken(folder / "out")
    if case.beside and not (folder / "out" / "registered" / f"{GOOD}.png").is_file():
        outcome.wrong.append("the good pair is not done")
    if case.beside and not (folder / "out" / "per_image.csv").is_file():
        outcome.wrong.append("no table")
    return outcome


def warm_up(weights: Path, folder: Path) -> None:
    """Run ``test.py`` in this process, so that the others inherit what it imports late and what numba compiles."""
    folder.mkdir()
    good_pair(folder)
    arguments = [*folders("--checkpoint", str(weights)), "--mode", "Reg&Fusion"]
    with contextlib.redirect_stdout(None):
        test_script.main([argument.replace("{}", str(folder)) for argument in arguments])


def inputs(cases: list[Case], root: Path) -> list[Outcome]:
    """Run the cases."""
    outcomes = []
    for number, case in enumerate(cases):
        folder = root / str(number)
        folder.mkdir()
        case.make(folder)
        before = contents(folder)
        arguments = [argument.replace("{}", str(folder)) for argument in case.arguments]
        outcomes.append(judged(case, folder, before, Process(case.script, arguments, folder)))
        shutil.rmtree(folder)
    return outcomes


def killed(
    script: str, arguments: Callable[[bool], list[str]], make: Callable[[Path], object], count: int, root: Path
) -> list[Outcome]:
    """Kill a script ``count`` times at random moments, and let it go on; its results must be those of a run that was
    not killed. ``arguments(again)`` are those of the first or of a later call.
    """

    def start(folder: Path, again: bool) -> Process:
        return Process(script, [text.replace("{}", str(folder)) for text in arguments(again)], folder)

    for name in ("to compile", "without a kill"):  # of which the second takes as long as those that follow
        straight = root / f"{script} {name}"
        straight.mkdir(parents=True)
        make(straight)
        begun = time.monotonic()
        start(straight, False).wait()
        seconds = time.monotonic() - begun
    expected, moments, outcomes = results(straight / "out"), random.Random(0), []
    for number in range(count):
        folder = root / f"{script} {number}"
        folder.mkdir()
        make(folder)
        before = contents(folder)
        moment = moments.uniform(0, seconds)
        ended = start(folder, False).wait(moment)
        outcome = Outcome(f"{script}.py killed", f"after {moment / seconds:.0%} of its time", *ended)
        leftovers = [line for line in broken(folder / "out") if ".tmp" not in line]
        outcome.wrong += [f"after the kill: {line}" for line in leftovers]
        again = (folder / "out" / "state.pt").exists() or script != "train"
        code, text = start(folder, again).wait()
        if code != 0:
            outcome.wrong.append(f"going on ended with {code}: {text[-200:]}")
        elif differing := {name for name, _ in results(folder / "out").items() ^ expected.items()}:
            outcome.wrong.append(f"not as without a kill: {', '.join(sorted(differing))}")
        after = contents(folder)
        if any(after.get(name) != content for name, content in before.items()):
            outcome.wrong.append("an input was changed")
        outcomes.append(outcome)
    return outcomes


def results(out: Path) -> dict[str, str]:
    """What a run leaves, but for times: pictures and maps, or the weights and random states of training."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.suffix in (".png", ".npz") or path.parent.name == "transform":
            found[str(path.relative_to(out))] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "state.pt":
            state = torch.load(path, weights_only=True)
            parts = {part: state[part] for part in ("network", "average", "optimizer", "random")}
            found |= {"step": str(state["position"]["step"]), path.name: hashlib.sha256(repr_of(parts)).hexdigest()}
    return found


def repr_of(tree: object) -> bytes:
    """Return the bytes of a tree of tensors and plain values."""
    if isinstance(tree, dict):
        return b"".join(str(key).encode() + repr_of(value) for key, value in tree.items())
    if isinstance(tree, (list, tuple)):
        return b"".join(map(repr_of, tree))
    return tree.contiguous().view(-1).numpy().tobytes() if isinstance(tree, torch.Tensor) else repr(tree).encode()


def full_disk(weights: Path, root: Path, every: int) -> list[Outcome]:
    """Let the system refuse every write beyond so many bytes of a file, as a full disk does, in the middle of it; of
    the numbers of bytes take ``every`` so many.
    """
    fusing = [*folders("--checkpoint", str(weights))[2:], "--mode", "Fusion"]
    fusing = [text for text in fusing if text not in ("--registrar", "none")]
    scoring = ["--ir", "{}/ir", "--vi", "{}/vi", "--results", "a={}/vi", "--metrics", "SSIM", "--workers", "1"]
    commands = {
        "test": (fusing, good_pair),
        "evaluate": ([*scoring, "--out", "{}/out"], good_pair),
        "train": (["--config", "{}/tiny.yaml", "--out", "{}/out", "--device", "cpu"], training),
    }
    outcomes = []
    for script, (arguments, make) in commands.items():
        for limit in (1000, 0, 100, 5000)[::every]:
            folder = root / f"{script} {limit}"
            folder.mkdir(parents=True)
            make(folder)
            before = contents(folder)
            texts = [text.replace("{}", str(folder)) for text in arguments]
            case = Case("full disk", f"{script}.py, {limit} bytes", make, texts, script, (0, 2), False)
            outcomes.append(judged(case, folder, before, Process(script, texts, folder, limit)))
    return outcomes


def shape(outcome: Outcome) -> str:
    """What a case was told, without names and numbers."""
    lines = [
        line for line in outcome.said.splitlines() if line.startswith(("error: ", "note: ")) or ": error: " in line
    ]
    if not lines:
        return ""
    line = re.sub(r"^(.*: )?(error|note): ", r"\2: ", lines[-1])
    line = re.sub(r"\S*/[^:;,]*", "PATH", line)
    return re.sub(r"[0-9][0-9.e+-]*", "N", line)[:110].replace("|", "/")


def table(outcomes: list[Outcome]) -> str:
    """A row for each kind of case: how they ended, what is wrong, and what most of them were told."""
    rows = [
        "| kind | cases | done | refused in a line | killed | wrong | said most often |",
        "| --- |" + " ---: |" * 5 + " --- |",
    ]
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        codes = Counter("done" if each.code == 0 else "killed" if each.code < 0 else "line" for each in own)
        told = Counter(filter(None, map(shape, own))).most_common(3)
        words = "<br>".join(f"{count} x `{text}`" for text, count in told)
        wrong = sum(bool(each.wrong) for each in own)
        rows.append(
            f"| {kind} | {len(own)} | {codes['done']} | {codes['line']} | {codes['killed']} | {wrong} | {words} |"
        )
    return "\n".join(rows)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="half of training, half of test.py (default: 50)")
    parser.add_argument("--every", type=int, default=1, help="of the inputs and limits (default: all)")
    parser.add_argument("--only", help="only this kind of inputs")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # a process that forks has no others
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        weights = root / "weights.safetensors"
        cases = [case for case in all_cases(weights) if args.only in (None, case.kind)][:: args.every]
        warm_up(weights, root / "warm")
        outcomes = inputs(cases, root)
        if args.only is None:
            outcomes += full_disk(weights, root / "full", args.every)
        if args.kills:
            steady = ["--config", "{}/tiny.yaml", "--out", "{}/out", "--device", "cpu"]
            outcomes += killed(
                "train", lambda again: steady + ["--resume"] * again, training, args.kills // 2, root / "training"
            )

            def several(folder: Path) -> None:
                for n in range(6):
                    good_pair(folder, f"{n}")

            testing = folders("--save_flow")
            outcomes += killed("test", lambda again: testing, several, args.kills - args.kills // 2, root / "testing")
    print(table(outcomes))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    for outcome in wrong:
        tail = outcome.said.strip().splitlines()[-1:] or [""]
        print(f"WRONG: {outcome.kind}: {outcome.name}: {'; '.join(outcome.wrong)} ({tail[0][:300]})", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
