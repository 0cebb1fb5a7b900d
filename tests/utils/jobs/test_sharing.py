"""A folder shared by two processes, and a killed run continued: each pair is done once, and there is one summary."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import test as test_script
from datasets.toy import toy_scene
from utils.errors import UserError
from utils.files.images import write_image

ROOT = Path(__file__).resolve().parents[3]
NAMES = [f"{number:02d}" for number in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    for seed, name in enumerate(NAMES):
        scene = toy_scene(seed, 48, 64)
        for part in ("ir", "vi"):
            write_image(folder / part / f"{name}.png", getattr(scene, part))
    return folder


def arguments(folder, out, *more):
    data = ("--ir", folder / "ir", "--vi", folder / "vi", "--mode", "Reg", "--registrar", "none", "--device", "cpu")
    return [str(argument) for argument in (*data, "--sheets", 2, "--out", out, *more)]


def written(out):
    return {path.stem: path.stat().st_mtime_ns for path in (out / "registered").iterdir()}


def test_a_killed_run_is_continued(folder, tmp_path, capsys):
    test_script.main(arguments(folder, tmp_path))
    whole, before = (tmp_path / "per_image.csv").read_text(), written(tmp_path)
    # As if the run had been killed after three pairs, while it wrote the fourth.
    for name in NAMES[3:]:
        (tmp_path / "done" / f"{name}.json").unlink()
    (tmp_path / "registered" / "04.png").unlink()
    (tmp_path / "summary.json").unlink()
    test_script.main(arguments(folder, tmp_path, "--skip_done"))
    after = written(tmp_path)
    assert [name for name in NAMES if after[name] != before.get(name)] == NAMES[3:]
    assert json.loads((tmp_path / "summary.json").read_text())["pairs"] == 5
    rows = [list(csv.DictReader(text.splitlines())) for text in (whole, (tmp_path / "per_image.csv").read_text())]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in rows[0]] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in rows[1]
    ]


def test_what_was_done_otherwise_is_done_again(folder, tmp_path):
    test_script.main(arguments(folder, tmp_path, "--limit", 2))
    before = written(tmp_path)
    test_script.main(arguments(folder, tmp_path, "--limit", 2, "--skip_done", "--save_flow"))
    assert all(value != before[name] for name, value in written(tmp_path).items())
    (tmp_path / "done" / "00.json").write_text("{")
    with pytest.raises(UserError, match="00.json: not a record of a pair"):
        test_script.main(arguments(folder, tmp_path, "--limit", 2, "--skip_done"))


@pytest.mark.slow
def test_two_processes_share_a_folder(folder, tmp_path):
    (folder / "ir" / "05.png").write_bytes(b"damaged")
    write_image(folder / "vi" / "05.png", toy_scene(5, 48, 64).vi)
    # The launcher's name for several processes; they share the CPU by test.py's own --device.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, str(ROOT / "test.py"), *arguments(folder, tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=180)
    assert ended.returncode != 0 and ended.stderr.count("05.png: not a readable image") >= 1, ended.stderr
    assert ended.stdout.count("5 pairs") == 1
    rows = list(csv.DictReader((tmp_path / "per_image.csv").open()))
    assert [row["name"] for row in rows] == NAMES
    assert sorted(written(tmp_path)) == NAMES
    # Each process draws the sheets of its own first two pairs.
    assert sorted(path.stem for path in (tmp_path / "sheets").iterdir()) == NAMES[:4]
