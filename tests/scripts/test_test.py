"""test.py, run as a user runs it: its output files, and errors on bad input."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch

import test as test_script
from datasets.cameras import Cameras, unlike_cameras
from datasets.deformation import TEST, random_deformation
from datasets.paired import Pair
from datasets.toy import toy_scene
from datasets.truth import Truth, truth_file
from models import load_model
from models.deploy.inference import SMALLEST_TILE
from models.warping import flow_to_grid, warp
from utils.errors import UserError
from utils.files.images import read_image, write_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Two small scenes in the layout of the test sets."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "MSRS" / "test"
    for seed, name in enumerate(("00001N", "00002D")):
        scene = toy_scene(seed, 64, 96)
        generator = torch.Generator().manual_seed(seed)
        flow = random_deformation(1, (64, 96), TEST, generator).displacement()
        write_image(folder / "ir" / f"{name}.png", scene.ir)
        write_image(folder / "vi" / f"{name}.png", scene.vi)
        write_image(folder / "ir_warp" / f"{name}.png", warp(scene.ir[None], flow)[0])
        (folder / "flow").mkdir(exist_ok=True)
        scipy.io.savemat(folder / "flow" / f"{name}.png.mat", {"flow": flow_to_grid(flow).numpy()})
    return root


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Score in this process: others would import torch for seconds; tests/scripts/test_evaluate.py has them."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def run_test(checkpoint, save_dir, *arguments):
    test_script.main(["--checkpoint", str(checkpoint), "--out", str(save_dir), *map(str, arguments)])


def test_a_test_set_is_registered_fused_and_scored(untrained, data_root, tmp_path, capsys):
    arguments = ("--dataset_name", "MSRS", "--data_root", data_root, "--save_flow", "--metrics", "SSIM,MI")
    arguments += ("--protocols", "official", "band_free")
    run_test(untrained, tmp_path, *arguments)
    for folder in ("registered", "fused", "sheets"):
        assert [p.name for p in sorted((tmp_path / folder).iterdir())] == ["00001N.png", "00002D.png"]
    flow = np.load(tmp_path / "flow" / "00001N.npz")["flow_ir2vi"]
    assert flow.shape == (2, 64, 96)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["pairs"] == 2 and summary["seconds_per_pair"] > 0
    registration = summary["registration"]
    assert registration["before"] == registration["official"]["before"]
    for protocol in ("official", "band_free"):
        assert registration[protocol]["before"]["EPE"] > 0 and registration[protocol]["after"]["RE"] > 0
    rows = list(csv.DictReader((tmp_path / "per_image.csv").open()))
    assert [row["name"] for row in rows] == ["00001N", "00002D"]
    assert all(float(value) >= 0 for row in rows for key, value in row.items() if key not in ("name", "source"))
    for column, protocol in (("EPE_after", "official"), ("EPE_after_band_free", "band_free")):
        mean = sum(float(row[column]) for row in rows) / 2
        assert mean == pytest.approx(registration[protocol]["after"]["EPE"])
    printed = capsys.readouterr().out
    assert f"{registration['after']['EPE']:.2f}" in printed.splitlines()[1]
    scores = list(csv.DictReader((tmp_path / "scores" / "summary.csv").open()))
    assert len(scores) == 1 and 0 < float(scores[0]["SSIM"]) < 1 and float(scores[0]["MI"]) > 0
    assert float(scores[0]["EPE"]) == pytest.approx(registration["after"]["EPE"], rel=1e-3)


def test_modes_read_the_right_infrared_image(untrained, data_root, tmp_path):
    model = load_model(untrained)
    folder = data_root / "MSRS" / "test"
    ir, ir_warp, vi = (read_image(folder / part / "00001N.png")[None] for part in ("ir", "ir_warp", "vi"))
    arguments = ("--dataset_name", "MSRS", "--data_root", data_root, "--limit", 1)
    run_test(untrained, tmp_path / "fusion", *arguments, "--mode", "Fusion")
    run_test(untrained, tmp_path / "reg", *arguments, "--mode", "Reg", "--registrar", "matcher")
    with torch.no_grad():
        fused, registered = model.fuse(ir, vi)[0], model.register(ir_warp, vi).registered[0]
    assert (read_image(tmp_path / "fusion" / "fused" / "00001N.png") - fused).abs().max() < 0.003
    assert (read_image(tmp_path / "reg" / "registered" / "00001N.png") - registered).abs().max() < 0.003
    assert not (tmp_path / "fusion" / "registered").exists() and not (tmp_path / "reg" / "fused").exists()
    assert "registration" not in json.loads((tmp_path / "fusion" / "summary.json").read_text())


@pytest.fixture(scope="module")
def camera_root(tmp_path_factory):
    """Two small scenes as two unlike cameras see them."""
    root = tmp_path_factory.mktemp("cameras")
    truths = {}
    for seed, name in enumerate("ab"):
        scene = toy_scene(seed, 64, 96)
        pair = unlike_cameras(Pair(name, scene.ir, scene.vi), 0, Cameras(sensors=((72, 60),)))
        write_image(root / "S" / "test" / "ir" / f"{name}.png", pair.ir)
        write_image(root / "S" / "test" / "vi" / f"{name}.png", pair.vi)
        truths[name] = Truth(pair.vi_to_ir, (96, 64), (72, 60))
    (root / "S" / "test" / "truth.json").write_bytes(truth_file(truths))
    return root


def test_pairs_of_unlike_cameras_are_scored_by_their_true_map(camera_root, tmp_path, capsys):
    arguments = ("--dataset_name", "S", "--data_root", camera_root, "--mode", "Reg", "--registrar", "none")
    run_test(tmp_path / "nowhere.pth", tmp_path / "out", *arguments)
    cameras = json.loads((tmp_path / "out" / "summary.json").read_text())["registration"]["cameras"]
    assert {"error_640", "median_640", "within_3px", "within_20px", "AUC_10px", "AUC_20px"} <= cameras["after"].keys()
    # Without a registrar the frames stay fitted to each other.
    assert cameras["before"] == pytest.approx(cameras["after"], rel=1e-4) and cameras["before"]["error_640"] > 10
    rows = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open()))
    mean = sum(float(row["error_640_after"]) for row in rows) / 2
    assert mean == pytest.approx(cameras["after"]["error_640"])
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("   cameras:  median_640 ") and "within_10px" in line


def test_fused_images_of_unlike_cameras_have_no_metrics(camera_root, tmp_path):
    arguments = ("--dataset_name", "S", "--data_root", camera_root, "--metrics", "SSIM", "--mode", "Reg")
    with pytest.raises(UserError, match="--metrics: the images of two unlike cameras are not aligned"):
        run_test(tmp_path / "nowhere.pth", tmp_path / "out", *arguments, "--registrar", "none")
    assert not (tmp_path / "out").exists()


def test_the_old_name_of_the_folder_is_taken_with_a_note(untrained, data_root, tmp_path, capsys):
    data = ("--dataset_name", "MSRS", "--data_root", str(data_root), "--mode", "Reg", "--limit", "1")
    test_script.main([*data, "--registrar", "none", "--save_dir", str(tmp_path / "old")])
    assert (tmp_path / "old" / "summary.json").is_file()
    assert capsys.readouterr().err.splitlines()[0] == "note: --save_dir is now --out"


def test_only_what_this_run_wrote_is_scored(untrained, data_root, tmp_path):
    arguments = ("--dataset_name", "MSRS", "--data_root", data_root)
    run_test(untrained, tmp_path, *arguments, "--save_flow", "--registrar", "matcher")
    run_test(untrained, tmp_path, *arguments, "--mode", "Fusion", "--metrics", "SSIM", "--limit", 1)
    assert (tmp_path / "scores" / "summary.csv").read_text().splitlines()[0] == "method,images,SSIM"


def test_a_baseline_needs_no_weights(data_root, tmp_path):
    arguments = ("--dataset_name", "MSRS", "--data_root", data_root, "--mode", "Reg", "--registrar", "none")
    run_test(tmp_path / "nowhere.pth", tmp_path / "out", *arguments, "--limit", 1)
    assert (tmp_path / "out" / "summary.json").is_file()


@pytest.mark.slow
def test_baselines_go_the_same_way(untrained, data_root, tmp_path):
    arguments = ("--dataset_name", "MSRS", "--data_root", data_root, "--mode", "Reg")
    arguments += ("--protocols", "official", "band_free")
    run_test(untrained, tmp_path / "none", *arguments, "--registrar", "none")
    none = json.loads((tmp_path / "none" / "summary.json").read_text())["registration"]
    assert none["after"] == none["before"] and none["band_free"]["after"] == none["band_free"]["before"]
    run_test(untrained, tmp_path / "structural", *arguments, "--registrar", "structural")
    structural = json.loads((tmp_path / "structural" / "summary.json").read_text())["registration"]
    run_test(untrained, tmp_path / "auto", *arguments)
    assert json.loads((tmp_path / "auto" / "summary.json").read_text())["registration"] == structural
    with open(tmp_path / "auto" / "per_image.csv") as file:
        assert all(float(row["confidence"]) > 0.7 for row in csv.DictReader(file))
    assert structural["after"]["EPE"] < 0.7 * structural["before"]["EPE"]


def write_files(folder, ir, vi):
    cv2.imwrite(str(folder / ir[0]), ir[1])
    cv2.imwrite(str(folder / vi[0]), vi[1])
    return folder / ir[0], folder / vi[0]


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


@pytest.mark.parametrize(
    "ir, vi",
    [
        (("t.tif", noise(40, 50, dtype=np.uint16)), ("v.jpg", noise(40, 50, 3))),  # 16-bit thermal
        (("t.png", noise(33, 47, 3)), ("v.png", noise(33, 47))),  # colour IR, gray VI, odd size
        (("t.png", noise(24, 32)), ("v.bmp", noise(64, 80, 3))),  # a smaller thermal sensor
        (("t.png", noise(40, 40, 4)), ("v.png", noise(40, 40, 4))),  # alpha channels
    ],
)
def test_two_files_of_any_kind(untrained, tmp_path, ir, vi):
    paths = write_files(tmp_path, ir, vi)
    run_test(
        untrained, tmp_path / "out", "--ir", paths[0], "--vi", paths[1], "--metrics", "SSIM", "--registrar", "none"
    )
    assert read_image(tmp_path / "out" / "fused" / "v.png").shape == (3, *vi[1].shape[:2])
    assert read_image(tmp_path / "out" / "registered" / "v.png").shape[-2:] == vi[1].shape[:2]
    alignment = json.loads((tmp_path / "out" / "summary.json").read_text())["registration"]["alignment"]
    assert alignment["before"].keys() == alignment["after"].keys() == {"align_MI", "align_NCC"}


def test_one_bad_pair_is_named_and_the_others_are_kept(untrained, tmp_path):
    for name in ("a", "b"):
        for modality in ("ir", "vi"):
            (tmp_path / modality).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / modality / f"{name}.png"), noise(40, 40))
    data = (tmp_path / "ir" / "a.png").read_bytes()
    (tmp_path / "ir" / "a.png").write_bytes(data[:300])
    with pytest.raises(UserError, match="a.png: not a readable image"):
        run_test(untrained, tmp_path / "out", "--ir", tmp_path / "ir", "--vi", tmp_path / "vi")
    assert [p.name for p in (tmp_path / "out" / "fused").iterdir()] == ["b.png"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pairs"] == 1


def test_refusals(untrained, data_root, tmp_path):
    pair = write_files(tmp_path, ("t.png", noise(40, 40)), ("v.png", noise(20, 20)))
    files = ("--ir", pair[0], "--vi", pair[1])
    with pytest.raises(UserError, match="v: .*at least 32"):
        run_test(untrained, tmp_path / "out", *files)
    with pytest.raises(UserError, match="t.png: neither|t.png: not a PyTorch"):
        run_test(pair[0], tmp_path / "out", *files)
    with pytest.raises(UserError, match="t.png: cannot be written|cannot be written"):
        run_test(untrained, pair[0] / "out", *files)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: there is no such device"):
            run_test(untrained, tmp_path / "out", *files, "--device", "cuda")
    with pytest.raises(UserError, match="--device gpu"):
        run_test(untrained, tmp_path / "out", *files, "--device", "gpu")
    with pytest.raises(UserError, match="--precision float16 is for GPUs"):
        run_test(untrained, tmp_path / "out", *files, "--device", "cpu", "--precision", "float16")
    for wrong in (("--ir", "x"), ("--dataset_name", "MSRS"), ("--limit", "0"), ("--mode", "reg")):
        with pytest.raises(SystemExit) as ended:
            run_test(untrained, tmp_path / "out", *wrong)
        assert ended.value.code == 2
    assert not (tmp_path / "out" / "fused").exists()


def test_the_process_ends_with_one_line_and_code_2(tmp_path):
    command = [sys.executable, str(ROOT / "test.py"), "--ir", "none.png", "--vi", "none.png"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.strip() == "error: none.png: no such file or folder" and ended.stdout == ""


def test_precision_and_large_images(untrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    scene = toy_scene(0, 64, 96)
    large = {name: torch.nn.functional.interpolate(getattr(scene, name)[None], (80, 480))[0] for name in ("ir", "vi")}
    for name, image in large.items():
        write_image(tmp_path / f"{name}.png", image)
    files = (
        "--ir",
        tmp_path / "ir.png",
        "--vi",
        tmp_path / "vi.png",
        "--save_flow",
        "--device",
        "cpu",
        "--registrar",
        "matcher",
    )
    runs = {
        "whole": (),
        "bfloat16": ("--precision", "bfloat16"),
        "reduced": ("--max_side", SMALLEST_TILE),
    }
    found = {}
    for name, options in runs.items():
        run_test(untrained, tmp_path / name, *files, *options)
        assert ("use --precision float32" in capsys.readouterr().err) == (name == "bfloat16")
        fused = read_image(tmp_path / name / "fused" / "vi.png")
        found[name] = np.load(tmp_path / name / "flow" / "vi.npz")["flow_ir2vi"], fused
        assert found[name][0].shape == (2, 80, 480)
    for name in ("bfloat16", "reduced"):
        difference = np.abs(found[name][0] - found["whole"][0]).mean()
        assert 0 < difference < 1.0
        assert (found[name][1] - found["whole"][1]).square().mean() < 1e-3
    with pytest.raises(SystemExit) as ended:
        run_test(untrained, tmp_path / "out", *files, "--max_side", "100")
    assert ended.value.code == 2


def test_the_strength_of_ir(untrained, data_root, tmp_path, capsys):
    arguments = ("--dataset_name", "MSRS", "--data_root", data_root, "--mode", "Fusion", "--limit", 1)
    for strength in ("0", "0.5", "1"):
        run_test(untrained, tmp_path / strength, *arguments, "--ir_strength", strength)
    none, half, whole = (read_image(tmp_path / s / "fused" / "00001N.png") for s in ("0", "0.5", "1"))
    vi = read_image(data_root / "MSRS" / "test" / "vi" / "00001N.png")
    assert torch.equal(none, vi) and (half - (vi + whole) / 2).abs().max() < 0.006 and (whole - vi).abs().max() > 0.1
    for wrong in (("--ir_strength", "2"), ("--ir_strength", "much"), ("--ir_strength", "0.5", "--mode", "Reg")):
        with pytest.raises(SystemExit):
            run_test(untrained, tmp_path / "out", *arguments, *wrong)
        assert "ir_strength" in capsys.readouterr().err
