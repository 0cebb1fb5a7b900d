"""test.py on a real day's material: thermal files of every kind, names of every kind, and what it says about them."""

import csv
import json
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import test as test_script
from datasets.toy import toy_scene
from utils.errors import UserError
from utils.files.false_colour import known_palettes
from utils.files.images import read_image, write_image

HEIGHT, WIDTH = 64, 96


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Score in this process: others would import torch for seconds; tests/scripts/test_evaluate.py has them."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def scene(seed):
    """IR as values in [0, 1], and VI."""
    pair = toy_scene(seed, HEIGHT, WIDTH)
    return pair.ir[0].numpy(), pair.vi


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif isinstance(values, torch.Tensor):
        write_image(path, values)
    else:
        cv2.imwrite(str(path), values)
    return path


def run(folder, *options, ir="ir", vi="vi", checkpoint=None, registrar="none"):
    weights = ["--checkpoint", checkpoint] if checkpoint else ["--mode", "Reg"]
    sides = ["--ir", folder / ir, "--vi", folder / vi] if ir else []
    arguments = [*weights, "--registrar", registrar, *sides, "--out", folder / "out", *options]
    test_script.main([str(argument) for argument in arguments])
    return folder / "out"


def test_a_folder_of_measurements(untrained, tmp_path, capsys):
    kinds = {
        "0": lambda ir: (ir * 1000 + 7000).astype(np.uint16),
        "1": lambda ir: (ir * 4000 - 500).astype(np.int16),
        "2": lambda ir: (ir * 100000 - 500).astype(np.int32),
        "3": lambda ir: (ir * 35 - 5).astype(np.float32),
    }
    for n, kind in kinds.items():
        ir, vi = scene(int(n))
        values = kind(ir)
        if n == "3":
            values[20:40, 30:60] = np.nan
        write(tmp_path / "ir" / f"ir_{n}.{'npy' if n == '2' else 'tif'}", values)
        write(tmp_path / "vi" / f"vis_{n}.png", vi)
    write(tmp_path / "ir" / "ir_9.tif", values)
    write(tmp_path / "vi" / "overview.png", vi)
    out = run(tmp_path, "--metrics", "SSIM", checkpoint=untrained)
    said, errors = capsys.readouterr()
    assert "note: names pair up once the prefix 'ir_' of IR and prefix 'vis_' of VI is taken off" in errors
    folders = tmp_path / "ir", tmp_path / "vi"
    assert "note: {}: without a partner in {}: ir_9.tif; left out".format(*folders) in errors
    assert "overview.png; left out" in errors
    assert errors.count("note: vis_3: IR has missing pixels") == 1
    assert "IR is counts; each image is stretched between its 0.5 and 99.5 percentiles" in said
    rows = {row["name"]: row for row in csv.DictReader((out / "per_image.csv").open())}
    assert len(rows) == 4 and 6990 < float(rows["vis_0"]["ir_low"]) < float(rows["vis_0"]["ir_high"]) < 8010
    assert sum(json.loads((out / "summary.json").read_text())["infrared"].values()) == 4
    # The hole is black, and nothing of it spreads; the fused image shows VI there.
    registered, fused = (read_image(out / kind / "vis_3.png") for kind in ("registered", "fused"))
    assert registered[:, 20:40, 30:60].abs().max() == 0 and registered[:, 42:, :].mean() > 0.1
    assert torch.equal(fused[:, 20:40, 30:60], read_image(tmp_path / "vi" / "vis_3.png")[:, 20:40, 30:60])
    # Each is stretched to itself, whatever its type.
    whole = (scene(0)[0] - np.percentile(scene(0)[0], 0.5)) / np.ptp(np.percentile(scene(0)[0], (0.5, 99.5)))
    assert np.abs(read_image(out / "registered" / "vis_0.png")[0].numpy() - whole.clip(0, 1)).max() < 0.01


def test_aligned_pairs_are_fused_around_what_is_missing(untrained, tmp_path):
    ir, vi = scene(0)
    values = (ir * 35 - 5).astype(np.float32)
    values[:, :20] = -9999
    write(tmp_path / "ir.tif", values)
    write(tmp_path / "vi.png", vi)
    out = run(tmp_path, "--mode", "Fusion", ir="ir.tif", vi="vi.png", checkpoint=untrained)
    fused, visible = read_image(out / "fused" / "vi.png"), read_image(tmp_path / "vi.png")
    assert torch.equal(fused[:, :, :20], visible[:, :, :20]) and not torch.allclose(
        fused[:, :, 40:], visible[:, :, 40:]
    )


def test_one_stretch_keeps_a_set_from_flickering(tmp_path):
    ir, vi = scene(0)
    counts = (ir * 1000 + 7000).astype(np.uint16)
    for n in range(2):
        write(tmp_path / "ir" / f"{n}.png", counts if n == 0 else np.where(np.arange(WIDTH) < 10, 12000, counts))
        write(tmp_path / "vi" / f"{n}.png", vi)
    for options, steady in (((), False), (("--stretch", "set"), True), (("--stretch", "7000,8000"), True)):
        out = run(tmp_path, *options)
        first, second = (read_image(out / "registered" / f"{n}.png")[:, :, 12:] for n in range(2))
        assert torch.equal(first, second) == steady
    assert (first[0] - torch.from_numpy(ir)[:, 12:]).abs().max() < 0.006


@pytest.mark.parametrize("options, inverted", [((), True), (("--polarity", "white_hot"), False)])
def test_black_hot_pictures(tmp_path, capsys, options, inverted):
    ir, vi = scene(0)
    write(tmp_path / "ir.png", (255 - ir * 255).round().astype(np.uint8))
    write(tmp_path / "vi.png", vi)
    out = run(tmp_path, *options, ir="ir.png", vi="vi.png")
    registered = read_image(out / "registered" / "vi.png")[0].numpy()
    assert np.abs(registered - (ir if inverted else 1 - ir)).max() < 0.01
    said, errors = capsys.readouterr()
    assert ("taken as black hot" in said) == ("inverted" in errors) == inverted


def test_false_colours(tmp_path, capsys):
    ir, vi = scene(0)
    colours = known_palettes()["ironbow"].round().astype(np.uint8)[(ir * 255).round().astype(np.uint8)]
    write(tmp_path / "ir.png", colours[:, :, ::-1])
    write(tmp_path / "vi.png", vi)
    out = run(tmp_path, ir="ir.png", vi="vi.png")
    assert np.abs(read_image(out / "registered" / "vi.png")[0].numpy() - ir).mean() < 0.01
    assert "note: vi: IR is in false colours (ironbow)" in capsys.readouterr().err
    out = run(tmp_path, "--thermal_colours", "keep", ir="ir.png", vi="vi.png")
    assert len(read_image(out / "registered" / "vi.png")) == 3
    assert "note: vi: IR and VI are both colour pictures" in capsys.readouterr().err
    run(tmp_path, "--thermal_colours", "keep", ir="ir.png", vi="ir.png")
    assert "note: ir: IR and VI are the same picture" in capsys.readouterr().err


def test_pages(tmp_path, capsys):
    ir, vi = scene(0)
    pages = [Image.fromarray((ir * 255).round().astype(np.uint8)), Image.new("L", (WIDTH, HEIGHT), 99)]
    pages[0].save(tmp_path / "ir.tif", save_all=True, append_images=pages[1:])
    write(tmp_path / "vi.png", vi)
    out = run(tmp_path, ir="ir.tif", vi="vi.png")
    assert np.abs(read_image(out / "registered" / "vi.png")[0].numpy() - ir).max() < 0.01
    assert "several pages, the first is taken" in capsys.readouterr().err
    out = run(tmp_path, "--page", 2, ir="ir.tif", vi="vi.png")
    assert (read_image(out / "registered" / "vi.png") - 99 / 255).abs().max() < 1e-6
    with pytest.raises(UserError, match="ir.tif: has 2 pages, no page 3"):
        run(tmp_path, "--page", 3, ir="ir.tif", vi="vi.png")


def test_without_its_package_a_kind_of_files_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flyr", None)
    picture = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH), np.uint8))[1].tobytes()
    for n in range(3):
        (tmp_path / "ir").mkdir(exist_ok=True)
        (tmp_path / "ir" / f"{n}.jpg").write_bytes(picture[:2] + b"\xff\xe1\0\x07FLIR\0" + picture[2:])
        write(tmp_path / "vi" / f"{n}.png", scene(n)[1])
    with pytest.raises(UserError) as ended:
        run(tmp_path)
    line = str(ended.value)
    assert line.count("\n") == 0 and "0.jpg: a radiometric JPEG of FLIR" in line and "pip install flyr" in line


def test_a_list_of_pairs_and_nested_folders(untrained, tmp_path):
    for n, day in enumerate(("mon", "tue")):
        ir, vi = scene(n)
        write(tmp_path / "ir" / day / "1.png", (ir * 255).round().astype(np.uint8))
        write(tmp_path / "vi" / day / "1.png", vi)
    out = run(tmp_path, "--recursive", "--metrics", "SSIM", checkpoint=untrained)
    assert [path.relative_to(out / "fused").as_posix() for path in sorted((out / "fused").rglob("*.png"))] == [
        "mon/1.png",
        "tue/1.png",
    ]
    scores = list(csv.DictReader((out / "scores" / "per_image.csv").open()))
    assert {row["name"] for row in scores} == {"mon/1", "tue/1"}
    (tmp_path / "pairs.csv").write_text("ir,vi\nir/tue/1.png,vi/mon/1.png\n")
    out = run(tmp_path, "--pairs", tmp_path / "pairs.csv", "--out", tmp_path / "listed", ir=None)
    assert (
        np.abs(read_image(tmp_path / "listed" / "registered" / "vi" / "mon" / "1.png")[0].numpy() - scene(1)[0]).max()
        < 0.01
    )


@pytest.mark.parametrize(
    "ir, out, mode",
    [
        ("out/registered", "out", "Reg"),
        ("out/sheets", "vi/../out", "Reg"),
        ("link/fused", "out", "Reg&Fusion"),
        ("out/transform", "link", "Reg&Fusion"),
    ],
)
def test_an_input_is_never_overwritten(untrained, tmp_path, ir, out, mode):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    thermal, visible = scene(0)
    write(tmp_path / "vi" / "1.png", visible)
    given = write(tmp_path / ir / "1.png", (thermal * 255).round().astype(np.uint8))
    before = sorted(tmp_path.rglob("*")), given.read_bytes()
    with pytest.raises(UserError, match="is an input, and results would be written to .*; choose another --out"):
        run(tmp_path, "--mode", mode, "--out", tmp_path / out, ir=ir, checkpoint=untrained)
    assert (sorted(tmp_path.rglob("*")), given.read_bytes()) == before
    # What another mode leaves alone may be its input.
    if ir == "out/registered":
        run(tmp_path, "--mode", "Fusion", ir=ir, checkpoint=untrained)
        assert given.read_bytes() == before[1] and (tmp_path / "out" / "fused" / "1.png").is_file()


def test_rgb_and_thermal_in_one_file(tmp_path, capsys):
    for n in range(2):
        ir, vi = scene(n)
        four = torch.cat((vi.flip(0), torch.from_numpy(ir)[None])).mul(255).round().byte().permute(1, 2, 0).numpy()
        write(tmp_path / "both" / f"{n}.png", four)
    out = run(tmp_path, "--rgbt", tmp_path / "both", ir=None)
    assert np.abs(read_image(out / "registered" / "1.png")[0].numpy() - scene(1)[0]).max() < 0.003
    assert "note" not in capsys.readouterr().err
    run(tmp_path, ir="both", vi="both")
    told = capsys.readouterr().err
    assert "note: 0: IR and VI are the same picture" in told and "give the files as --rgbt" in told
    write(tmp_path / "both" / "0.png", scene(0)[1])
    with pytest.raises(UserError, match="0.png: has no fourth channel; --rgbt takes"):
        run(tmp_path, "--rgbt", tmp_path / "both", ir=None)


def test_swapped_sides_are_told(tmp_path, capsys):
    ir, vi = scene(0)
    write(tmp_path / "vi.png", vi)
    write(tmp_path / "gray.png", (ir * 255).round().astype(np.uint8))
    colours = known_palettes()["ironbow"].round().astype(np.uint8)[(ir * 255).round().astype(np.uint8)]
    write(tmp_path / "colours.png", colours[:, :, ::-1])
    for thermal in ("gray", "colours"):
        run(tmp_path, ir="vi.png", vi=f"{thermal}.png")
        told = capsys.readouterr().err
        assert f"note: {thermal}: IR is a colour picture, VI is gray or in false colours; are --ir and --vi sw" in told
    run(tmp_path, ir="vi.png", vi="vi.png")
    assert "IR and VI are the same picture" in capsys.readouterr().err


def test_a_picture_too_large_or_a_name_too_long_does_not_stop_the_rest(tmp_path, monkeypatch):
    names = ("1", "huge", "n" * 251)
    for name in names:
        ir, vi = scene(0)
        vi = torch.rand(3, 300, 300) if name == "huge" else vi
        write(tmp_path / "ir" / f"{name}.png", (ir * 255).round().astype(np.uint8))
        write(tmp_path / "vi" / f"{name}.png", vi)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40000)
    with pytest.raises(UserError) as ended:
        run(tmp_path, registrar="none")
    lines = str(ended.value).split("\nerror: ")
    assert len(lines) == 2 and "huge.png: has more than 0 million pixels" in lines[0]
    assert "cannot be written (File name too long)" in lines[1]  # NAME.json, one letter more than .png
    rows = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open()))
    assert [row["name"] for row in rows] == ["1"] and (tmp_path / "out" / "summary.json").is_file()
    assert not list((tmp_path / "out").rglob("n*")) and not list((tmp_path / "out").rglob(".*"))


def test_twelve_bits_of_the_visible_camera(untrained, tmp_path, capsys):
    ir, vi = scene(0)
    counts = (vi / vi.max() * 4095).round().numpy().astype(np.uint16).transpose(1, 2, 0)[:, :, ::-1]
    write(tmp_path / "vi.png", counts)
    write(tmp_path / "ir.png", (ir * 255).round().astype(np.uint8))
    out = run(tmp_path, "--mode", "Fusion", ir="ir.png", vi="vi.png", checkpoint=untrained)
    assert read_image(out / "fused" / "vi.png").mean() > 0.1
    assert "note: vi: VI holds 12 bits in a 16-bit file" in capsys.readouterr().err


def test_options_that_do_not_go_together(tmp_path, capsys):
    for options in (
        ("--dataset_name", "MSRS", "--data_root", "x", "--stretch", "set"),
        ("--polarity", "black_hot"),
        ("--pairs", "x.csv", "--recursive"),
        ("--pairs", "x.csv", "--dataset_name", "MSRS", "--data_root", "x"),
        ("--ir", "a", "--vi", "b", "--page", "0"),
        ("--ir", "a", "--vi", "b", "--rgbt", "c"),
        ("--vi_bits", "12"),
        ("--ir", "a", "--vi", "b", "--stretch", "8,7"),
    ):
        with pytest.raises(SystemExit) as ended:
            test_script.main(list(options))
        assert ended.value.code == 2 and "error: " in capsys.readouterr().err
