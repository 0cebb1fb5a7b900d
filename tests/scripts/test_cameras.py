"""test.py on two unlike cameras: what is written of accepted and of refused pairs, and maps that are applied again."""

import csv
import json

import numpy as np
import pytest
import torch

import test as test_script
from datasets.toy import toy_scene
from models.registration import Transform
from models.warping import resize
from utils.errors import UserError
from utils.files.images import read_image, write_image
from utils.files.infrared import read_infrared

VI_SIZE = (320, 240)
# IR shows a part of what VI shows, at another resolution: VI's pixel p lies at 0.8 (p - corner).
CORNER, SCALE = (50.0, 30.0), 0.8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """ir/ and vi/ with a true pair "scene" and a wrong one "wrong", whose IR shows a texture."""
    folder = tmp_path_factory.mktemp("cameras")
    scene = toy_scene(0, VI_SIZE[1], VI_SIZE[0])
    other = torch.rand(1, 16, 22, generator=torch.Generator().manual_seed(0))
    for name, ir in (("scene", scene.ir[:, 30:190, 50:270]), ("wrong", other)):
        # Half-pixel offsets: resize keeps edges in place, so centres move by (0.8 - 1) / 2.
        write_image(folder / "ir" / f"{name}.png", resize(ir[None], (128, 176))[0])
        write_image(folder / "vi" / f"{name}.png", scene.vi)
    return folder


def run(checkpoint, out, *arguments):
    test_script.main([str(a) for a in ("--checkpoint", checkpoint, "--out", out, "--device", "cpu", *arguments)])


def files(folder, name):
    return "--ir", folder / "ir" / f"{name}.png", "--vi", folder / "vi" / f"{name}.png"


def true_positions():
    x, y = np.meshgrid(np.arange(VI_SIZE[0]), np.arange(VI_SIZE[1]))
    return np.stack([SCALE * (p + 0.5 - c) - 0.5 for p, c in zip((x, y), CORNER)])


def test_a_folder_of_two_cameras(untrained, folder, tmp_path, capsys):
    run(untrained, tmp_path, "--ir", folder / "ir", "--vi", folder / "vi", "--registrar", "structural", "--save_flow")
    assert "wrong: refused, confidence 0." in capsys.readouterr().err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["pairs"], summary["accepted"], summary["refused"]) == (2, 1, 1)
    rows = list(csv.DictReader((tmp_path / "per_image.csv").open()))
    assert [row["accepted"] for row in rows] == ["1", "0"]
    assert [row["source"] for row in rows] == ["wide", "narrow"] and summary["sources"] == {"wide": 1, "narrow": 1}
    assert float(rows[0]["confidence"]) > 0.7 > float(rows[1]["confidence"])
    for kind in ("registered", "fused"):
        assert [path.stem for path in (tmp_path / kind).iterdir()] == ["scene"]
        assert read_image(tmp_path / kind / "scene.png").shape[1:] == VI_SIZE[::-1]
    assert sorted(path.stem for path in (tmp_path / "sheets").iterdir()) == ["scene", "wrong"]

    saved = json.loads((tmp_path / "transform" / "scene.json").read_text())
    assert saved["vi_size"] == list(VI_SIZE) and saved["ir_size"] == [176, 128] and saved["accepted"] is True
    positions = np.load(tmp_path / "flow" / "scene.npz")["map_vi2ir"]
    assert positions.shape == (2, *VI_SIZE[::-1]) and positions.dtype == np.float32
    inside = np.s_[:, 45:175, 65:255]
    assert np.linalg.norm((positions - true_positions())[inside], axis=0).mean() < 1
    assert np.allclose(Transform.load(tmp_path / "transform" / "scene.json").map_vi2ir(), positions, atol=1e-3)


def test_if_every_pair_is_refused_the_exit_code_is_3(untrained, folder, tmp_path):
    options = (*files(folder, "wrong"), "--registrar", "structural")
    (tmp_path / "out" / "fused").mkdir(parents=True)
    (tmp_path / "out" / "fused" / "wrong.png").write_bytes(b"of an earlier run")
    with pytest.raises(SystemExit) as ended:
        run(untrained, tmp_path / "out", *options)
    assert ended.value.code == 3
    assert not (tmp_path / "out" / "fused" / "wrong.png").exists()
    with pytest.raises(SystemExit):
        run(untrained, tmp_path / "kept", *options, "--keep_refused")
    assert read_image(tmp_path / "kept" / "fused" / "wrong.png").shape == (3, *VI_SIZE[::-1])


def test_a_transform_is_applied_without_estimating(untrained, folder, tmp_path):
    x, y = CORNER
    rows = [[SCALE, 0, SCALE * (0.5 - x) - 0.5], [0, SCALE, SCALE * (0.5 - y) - 0.5], [0, 0, 1]]
    Transform(torch.tensor(rows, dtype=torch.float64), VI_SIZE, (176, 128)).save(tmp_path / "maps" / "scene.json")
    for given in (tmp_path / "maps", tmp_path / "maps" / "scene.json"):
        out = tmp_path / given.suffix
        run(untrained, out, *files(folder, "scene"), "--mode", "Reg", "--transform", given, "--save_flow")
        assert np.abs(np.load(out / "flow" / "scene.npz")["map_vi2ir"] - true_positions()).max() < 1e-3
    ir = read_infrared(folder / "ir" / "scene.png").image
    registered = read_image(out / "registered" / "scene.png")
    assert (registered[0, 34:186:5, 54:266:5] - ir[0, 3:125:4, 3:173:4]).abs().mean() < 0.01

    with pytest.raises(UserError, match="none.json"):
        run(untrained, tmp_path / "x", *files(folder, "scene"), "--mode", "Reg", "--transform", tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="bad.json: not a transform"):
        run(untrained, tmp_path / "x", *files(folder, "scene"), "--mode", "Reg", "--transform", tmp_path / "bad.json")


@pytest.mark.parametrize("registrar", ["matcher", "none"])
def test_registrars_that_do_not_decide_fit_the_frames(untrained, folder, tmp_path, registrar):
    run(untrained, tmp_path, *files(folder, "scene"), "--registrar", registrar, "--save_flow")
    positions = np.load(tmp_path / "flow" / "scene.npz")["map_vi2ir"]
    x, y = np.meshgrid((np.arange(320) + 0.5) * 176 / 320 - 0.5, (np.arange(240) + 0.5) * 128 / 240 - 0.5)
    assert np.abs(positions - np.stack((x, y))).max() < (1e-3 if registrar == "none" else 20)
    assert "accepted" not in (tmp_path / "per_image.csv").read_text()
