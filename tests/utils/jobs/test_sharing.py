"""A killed run is continued: each pair is done once. Two processes: tests/utils/training/test_distributed.py."""

import csv
import json

import pytest

import test as test_script
from datasets.toy import toy_scene
from utils.errors import UserError
from utils.files.images import write_image

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
