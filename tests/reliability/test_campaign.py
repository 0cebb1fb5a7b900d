"""The campaign of bad inputs: it sees what is wrong, and a part of it is run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.campaign import Outcome, broken, contents, judged, table
from tests.reliability.inputs import GOOD, Case, all_cases, good_pair

ROOT = Path(__file__).resolve().parents[2]


class Ended:
    """A process that has ended."""

    def __init__(self, code, text=""):
        self.code, self.text = code, text

    def wait(self):
        return self.code, self.text


@pytest.fixture
def done(tmp_path):
    """The folder of a case whose good pair is done."""
    good_pair(tmp_path)
    registered = tmp_path / "out" / "registered" / f"{GOOD}.png"
    registered.parent.mkdir(parents=True)
    registered.write_bytes((tmp_path / "ir" / f"{GOOD}.png").read_bytes())
    (tmp_path / "out" / "per_image.csv").write_text("name\ngood\n")
    return tmp_path


def wrong(folder, code=0, text="", **options):
    case = Case("kind", "name", good_pair, [], **options)
    return judged(case, folder, contents(folder), Ended(code, text)).wrong


def test_what_is_wrong_is_seen(done):
    assert wrong(done) == [] and wrong(done, 2, "error: x") == []
    assert wrong(done, 1, "error: x") == ["exit code 1"] and wrong(done, -9) == ["exit code -9"]
    assert wrong(done, 2, "") == ["no word"] and wrong(done, 2, "error: x", expects=(0,)) == ["exit code 2"]
    assert wrong(done, 2, "error: x\nTraceback (most recent call last)") == ["a traceback or a warning of a library"]
    before = contents(done)
    (done / "vi" / f"{GOOD}.png").write_bytes(b"other")
    case = Case("kind", "name", good_pair, [])
    assert judged(case, done, before, Ended(0)).wrong == ["an input was changed"]
    (done / "owned").mkdir()
    assert wrong(done) == ["code was run"]
    (done / "out" / "registered" / f"{GOOD}.png").unlink()
    (done / "out" / "per_image.csv").unlink()
    assert wrong(done) == ["code was run", "the good pair is not done", "no table"]


def test_files_that_are_not_whole_are_seen(done):
    out = done / "out"
    assert broken(out) == []
    halves = {"a.png": (done / "ir" / f"{GOOD}.png").read_bytes()[:60], "b.json": b'{"a": ', "c.csv": b"a,b\n1,2\n3\n"}
    halves |= {"d.safetensors": b"x", "state.pt": b"x", ".e.png.1.tmp": b""}
    for name, data in halves.items():
        (out / name).write_bytes(data)
    assert sorted(broken(out)) == sorted(f"{name} is not whole" for name in halves)


def test_there_are_three_hundred_cases_and_more(tmp_path):
    cases = all_cases(tmp_path / "weights.safetensors")
    assert len({(case.kind, case.name) for case in cases}) == len(cases) >= 300


def test_the_table_counts(tmp_path):
    outcomes = [
        Outcome("a", "1", 0, ""),
        Outcome("a", "2", 2, "error: /x/y.png: has 7 pages"),
        Outcome("b", "3", -9, ""),
    ]
    outcomes[2].wrong.append("lost")
    rows = table(outcomes).splitlines()[2:]
    assert rows == ["| a | 2 | 1 | 1 | 0 | 0 | 1 x `error: PATH: has N pages` |", "| b | 1 | 0 | 0 | 1 | 1 |  |"]


@pytest.mark.slow
def test_a_part_of_the_campaign():
    command = [sys.executable, "-m", "tests.reliability.campaign", "--every", "40", "--kills", "2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "| train.py killed | 1 |" in ended.stdout and "| full disk | 3 |" in ended.stdout
