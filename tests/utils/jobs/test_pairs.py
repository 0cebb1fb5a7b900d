"""A folder done while others are read and written gives the same files; failures are told, and stop nothing."""

from dataclasses import replace

import pytest

from datasets.paired import PairedFolders
from datasets.toy import toy_scene
from models import Pipeline
from utils.benchmark.folder import STEPS, one_by_one, overlapped
from utils.files.images import write_image
from utils.jobs.pairs import Task, process, process_all, save


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for seed in range(4):
        scene = toy_scene(seed, 48, 64)
        write_image(folder / "ir" / f"{seed}.png", scene.ir)
        write_image(folder / "vi" / f"{seed}.png", scene.vi)
    return PairedFolders(folder / "ir", folder / "vi")


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_both_ways_write_the_same_files(pairs, tmp_path):
    pipeline, task = Pipeline(None, "none"), Task("Reg", tmp_path / "one", sheets=2)
    seconds = one_by_one(pipeline, pairs, replace(task, sheets=4))
    assert tuple(seconds) == STEPS and min(seconds.values()) > 0
    assert overlapped(pipeline, pairs, replace(task, out=tmp_path / "both", sheets=4)) > 0
    one, both = files(tmp_path / "one"), files(tmp_path / "both")
    assert one == both and len(one) == 12  # registered, sheets and transform of four pairs


def test_a_pair_that_fails_does_not_stop_the_others(pairs, tmp_path):
    damaged = PairedFolders(pairs.files["ir"]["0"].parent, pairs.files["vi"]["0"].parent)
    damaged.files["ir"]["1"] = tmp_path / "nowhere.png"
    pipeline, task, failures = Pipeline(None, "none"), Task("Reg", tmp_path / "out", sheets=1), []

    def compute(pair):
        if pair.name == "2":
            raise ValueError("too small")
        return process(pipeline, pair, task)

    def write(processed, number):
        if processed.pair.name == "3":
            raise OSError("disk full")
        save(processed, task, number)

    done = [processed.pair.name for processed in process_all(damaged, compute, write, failures)]
    assert done == ["0", "3"]
    assert failures == [f"{tmp_path / 'nowhere.png'}: no such file", "2: too small", "disk full"]
    assert [path.name for path in (tmp_path / "out" / "sheets").iterdir()] == ["0.png"]
    assert [path.name for path in (tmp_path / "out" / "registered").iterdir()] == ["0.png"]
