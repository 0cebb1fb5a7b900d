"""test.py with a rig, with temperatures, on IR's frame, and with videos, run as a user runs it."""

import csv
import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from kornia.geometry.linalg import transform_points

import test as test_script
from datasets.deformation import TEST, random_deformation
from datasets.toy import toy_scene
from models import SuperFusion
from models.registration import Transform
from models.registration.averaging import anchors, distance
from models.warping import flow_to_grid, pixel_grid, sample, warp
from models.weights import save_checkpoint
from utils.errors import UserError
from utils.files.images import read_image, write_image
from utils.files.thermal import read_thermal
from utils.files.video import Video, VideoWriter

VI, IR = (192, 144), (144, 108)  # width, height
MATRIX = torch.tensor([[0.72, 0.02, 2.0], [-0.01, 0.71, 1.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
NAMES = tuple("abcd")


def seen_by_ir(heat: torch.Tensor) -> torch.Tensor:
    """What the IR camera shows of ``heat`` ``(1, H, W)`` on VI's frame."""
    points = transform_points(torch.linalg.inv(MATRIX)[None], pixel_grid(IR[1], IR[0], MATRIX).flatten(2).mT)
    return sample(heat[None], points.mT.reshape(1, 2, IR[1], IR[0]).float(), "border")[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four pairs of a rig: VI as PNG, IR as counts of 16 bit around 7000."""
    root = tmp_path_factory.mktemp("rig")
    (root / "ir").mkdir()
    for seed, name in enumerate(NAMES):
        scene = toy_scene(seed, VI[1], VI[0])
        write_image(root / "vi" / f"{name}.png", scene.vi)
        counts = (7000 + 500 * seen_by_ir(scene.ir)[0].numpy()).round().astype(np.uint16)
        cv2.imwrite(str(root / "ir" / f"{name}.png"), counts)
    return root


@pytest.fixture(scope="module")
def rig(folders, tmp_path_factory):
    """The rig of the four pairs, by --calibrate, and the folder of its results."""
    root = tmp_path_factory.mktemp("calibrated")
    run(folders, root / "out", "--calibrate", root / "rig.json", "--search", "narrow")
    return root


def run(folders, out, *arguments):
    data = ("--ir", folders / "ir", "--vi", folders / "vi", "--registrar", "structural", "--out", out)
    test_script.main([str(argument) for argument in (*data, *arguments)])


def test_a_rig_is_calibrated(rig):
    found = Transform.load(rig / "rig.json")
    assert distance(found, Transform(MATRIX, VI, IR), anchors(found)) < 0.7
    assert found.confidence == pytest.approx(5 / 6) and found.source == "rig of 4 pairs"
    rows = list(csv.DictReader((rig / "out" / "per_image.csv").open()))
    assert [row["name"] for row in rows] == list(NAMES)
    assert all(float(row["distance_px"]) < 3 and 0 < float(row["weight"]) <= 1 for row in rows)
    summary = json.loads((rig / "out" / "summary.json").read_text())
    assert (summary["pairs"], summary["used"], summary["agree"]) == (4, 4, 4)
    assert 0 < summary["spread_px"]["median"] <= summary["spread_px"]["largest"] < 3
    assert (rig / "out" / "rig.png").is_file()


def test_too_few_pairs_make_no_rig(folders, tmp_path, capsys):
    with pytest.raises(UserError, match="a rig needs 3 pairs that are accepted, of 2 there are 2"):
        run(folders, tmp_path / "out", "--limit", 2, "--calibrate", tmp_path / "rig.json", "--search", "narrow")
    assert not (tmp_path / "rig.json").exists() and not list((tmp_path / "out").iterdir())
    assert "note: " not in capsys.readouterr().err
    sides = ["--ir", folders / "vi", "--vi", folders / "vi", "--limit", "1", "--search", "narrow"]
    with pytest.raises(UserError, match="of 1 there are"):
        test_script.main(
            [str(argument) for argument in (*sides, "--calibrate", tmp_path / "rig.json", "--out", tmp_path)]
        )
    assert "note: a: IR and VI are the same picture" in capsys.readouterr().err


def test_a_pair_starts_from_its_rig_or_takes_it(folders, rig, tmp_path):
    path = rig / "rig.json"
    run(folders, tmp_path / "near", "--mode", "Reg", "--rig", path, "--limit", 2)
    run(folders, tmp_path / "only", "--mode", "Reg", "--rig", path, "--rig_only", "--limit", 2, "--sheets", 1)
    near, only = (Transform.load(tmp_path / which / "transform" / "a.json") for which in ("near", "only"))
    assert near.source.startswith("rig, refined") and near.accepted
    assert only.source == "rig of 4 pairs" and distance(only, Transform.load(path), anchors(only)) < 1e-3
    for found in (near, only):
        assert distance(found, Transform(MATRIX, VI, IR), anchors(found)) < 1
    assert [file.name for file in (tmp_path / "only" / "sheets").iterdir()] == ["a.png"]
    assert len(list((tmp_path / "near" / "sheets").iterdir())) == 2


def test_a_rig_of_other_cameras_is_named(folders, tmp_path):
    Transform.of_frames((100, 80), IR).save(tmp_path / "rig.json")
    for extra in ((), ("--rig_only",)):
        with pytest.raises(UserError, match="a: VI is 192x144, but the transform is for 100x80"):
            run(folders, tmp_path / "out", "--mode", "Reg", "--rig", tmp_path / "rig.json", *extra, "--sheets", "none")


def test_counts_are_kept_on_either_frame(folders, rig, tmp_path):
    checkpoint = tmp_path / "untrained.safetensors"
    torch.manual_seed(0)
    save_checkpoint(checkpoint, SuperFusion())
    common = ("--rig", rig / "rig.json", "--rig_only", "--save_thermal", "--limit", 1, "--checkpoint", checkpoint)
    run(folders, tmp_path / "vi", *common, "--thermal_interpolation", "nearest")
    run(folders, tmp_path / "ir", *common, "--frame", "ir")
    given = read_thermal(folders / "ir" / "a.png").values
    warped, kept = (read_thermal(tmp_path / frame / "thermal" / "a.tiff").values for frame in ("vi", "ir"))
    assert torch.equal(kept, given)
    assert warped.shape == (1, VI[1], VI[0]) and warped.isnan().any()
    seen = warped[~warped.isnan()]
    assert set(seen.tolist()) <= set(given.flatten().tolist()) and len(seen) > 0.8 * warped.numel()
    fused, registered = (read_image(tmp_path / "ir" / kind / "a.png") for kind in ("fused", "vi_registered"))
    assert fused.shape == registered.shape == (3, IR[1], IR[0])
    expected = seen_by_ir(toy_scene(0, VI[1], VI[0]).vi.mean(0, keepdim=True))
    middle = (slice(None), slice(10, -10), slice(10, -10))
    assert (registered.mean(0, keepdim=True) - expected)[middle].abs().mean() < 0.03
    assert not (tmp_path / "ir" / "registered").exists() and (tmp_path / "ir" / "sheets" / "a.png").is_file()


def test_of_a_colour_picture_the_luminance_is_kept(folders, tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (IR[1], IR[0], 3), np.uint8)
    cv2.imwrite(str(tmp_path / "ir.png"), picture)
    Transform.of_frames(VI, IR).save(tmp_path / "map.json")
    files = ["--ir", tmp_path / "ir.png", "--vi", folders / "vi" / "a.png", "--transform", tmp_path / "map.json"]
    options = ["--mode", "Reg", "--frame", "ir", "--save_thermal", "--thermal_colours", "keep", "--out", tmp_path]
    test_script.main([str(argument) for argument in files + options])
    (written,) = (tmp_path / "thermal").iterdir()
    blue, green, red = (picture[..., i].astype(np.float32) for i in range(3))
    assert np.allclose(read_thermal(written).values[0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-2)


def test_a_refused_pair_leaves_no_temperatures(folders, rig, tmp_path):
    (tmp_path / "vi").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (VI[1], VI[0], 3), np.uint8)
    cv2.imwrite(str(tmp_path / "vi" / "a.png"), noise)
    stale = tmp_path / "out" / "thermal" / "a.tiff"
    stale.parent.mkdir(parents=True)
    stale.touch()
    data = ("--ir", folders / "ir" / "a.png", "--vi", tmp_path / "vi" / "a.png", "--mode", "Reg")
    with pytest.raises(SystemExit) as stopped:
        test_script.main(
            [*map(str, data), "--rig", str(rig / "rig.json"), "--save_thermal", "--out", str(tmp_path / "out")]
        )
    assert stopped.value.code == 3 and not stale.exists()


def test_a_sets_own_calibration_is_taken_off(tmp_path):
    """Aligned pairs that are off by 5 px: the error of the registration falls by about that."""
    folder, size = tmp_path / "data" / "S" / "test", (144, 192)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 2] = 5.0
    Transform(matrix, size[::-1], size[::-1]).save(tmp_path / "rig.json")
    scene = toy_scene(1, *size)
    flow = random_deformation(1, size, TEST, torch.Generator().manual_seed(0)).displacement()
    grid = pixel_grid(*size, like=scene.ir)
    grid[:, 0] += 5
    write_image(folder / "ir" / "a.png", scene.ir)
    write_image(folder / "ir_warp" / "a.png", warp(scene.ir[None], flow)[0])
    # VI shows at p what the aligned IR shows at p + 5.
    write_image(folder / "vi" / "a.png", sample(scene.vi[None], grid, "border")[0])
    (folder / "flow").mkdir()
    scipy.io.savemat(folder / "flow" / "a.mat", {"flow": flow_to_grid(flow).numpy()})
    errors = []
    for extra in ((), ("--set_rig", str(tmp_path / "rig.json"))):
        data = ("--dataset_name", "S", "--data_root", str(tmp_path / "data"), "--mode", "Reg", "--sheets", "none")
        test_script.main([*data, "--registrar", "structural", "--out", str(tmp_path / "out"), *extra])
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        errors.append(summary["registration"]["official"]["after"]["EPE"])
    assert errors[0] > 3.5 and errors[1] < 2
    with pytest.raises(UserError, match="--set_rig is for test sets with true displacements"):
        own = ("--ir", str(folder / "ir"), "--vi", str(folder / "vi"), "--mode", "Reg", "--registrar", "none")
        test_script.main([*own, "--set_rig", str(tmp_path / "rig.json"), "--out", str(tmp_path / "o")])


@pytest.fixture(scope="module")
def video_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    scene = toy_scene(3, VI[1], VI[0])
    for name, image in (("ir.mp4", scene.ir), ("vi.mp4", scene.vi)):
        with VideoWriter(folder / name, Fraction(10)) as writer:
            for number in range(4):
                writer.write(image, number / 10)
    return folder


def test_two_videos(video_files, tmp_path, capsys):
    data = ("--ir", video_files / "ir.mp4", "--vi", video_files / "vi.mp4", "--registrar", "structural")
    options = ("--mode", "Reg", "--key_every", "2", "--sheets", "--search", "narrow", "--out", tmp_path)
    test_script.main([str(argument) for argument in (*data, *options)])
    assert len(list(Video(tmp_path / "registered.mp4"))) == len(list(Video(tmp_path / "sheets.mp4"))) == 4
    printed = capsys.readouterr().out
    assert "4 frames" in printed and "2 of 2 key frames accepted" in printed and "before -> after smoothing" in printed


@pytest.mark.parametrize(
    "ir, vi, extra, message",
    [
        ("ir.mp4", "vi.png", (), "vi.png: no such file"),
        ("ir.mp4", ".", (), r"no video, but its partner .*ir\.mp4 is one"),
        ("ir.mp4", "vi.mp4", ("--save_flow",), "--save_flow is for images, not for videos"),
        ("ir_*.png", "vi.mp4", (), r"ir_\*\.png: no image file matches it"),
    ],
)
def test_what_does_not_go_with_a_video_is_named(video_files, tmp_path, ir, vi, extra, message):
    data = ("--ir", video_files / ir, "--vi", video_files / vi, "--mode", "Reg", "--registrar", "none", *extra)
    with pytest.raises(UserError, match=message):
        test_script.main([str(argument) for argument in (*data, "--out", tmp_path / "out")])
    assert not list((tmp_path / "out").glob("*.mp4"))


@pytest.mark.parametrize(
    "options, message",
    [
        (("--rig_only",), "--rig_only goes with --rig"),
        (("--rig", "a.json", "--transform", "b.json"), "give one of --transform, --calibrate and --rig"),
        (("--calibrate", "a.json", "--registrar", "none"), "--calibrate needs a registrar that judges"),
        (("--save_thermal", "--mode", "Fusion"), "--save_thermal goes with the modes Reg and Reg&Fusion"),
        (("--frame", "ir", "--mode", "Fusion"), "--frame ir goes with the modes Reg and Reg&Fusion"),
        (("--sheets", "many"), "many: write all, none or a number"),
    ],
)
def test_options_that_do_not_go_together(capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        test_script.main(list(options))
    assert stopped.value.code == 2 and message in capsys.readouterr().err
