"""The test-set maker: files that depend on seed and name only, a true flow, and no band where none is wanted."""

import json

import pytest
import torch

from datasets import deformation, paired
from datasets.cameras import unlike_cameras
from datasets.make_test_set import main
from models.warping import central_rectangle, valid_mask, warp
from utils.errors import UserError
from utils.files.images import write_image

SIZE = (61, 80)


@pytest.fixture
def aligned(tmp_path):
    for seed, name in enumerate(("a", "b", "c")):
        generator = torch.Generator().manual_seed(seed)
        image = torch.nn.functional.interpolate(torch.rand(1, 4, 9, 9, generator=generator), SIZE, mode="bilinear")[0]
        write_image(tmp_path / "ir" / f"{name}.png", 0.2 + 0.8 * image[:1])
        write_image(tmp_path / "vi" / f"{name}.png", image[1:])
    return tmp_path


def make(folder, out, *options):
    main(["--ir", str(folder / "ir"), "--vi", str(folder / "vi"), "--out", str(folder / out), "--name", "S", *options])
    return folder / out / "S" / "test"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_reads_back(aligned):
    make(aligned, "root")
    made, source = paired.test_set(aligned / "root", "S"), paired.PairedFolders(aligned / "ir", aligned / "vi")
    assert made.names == source.names
    for test, pair in zip(made, source):
        assert torch.equal(test.ir, pair.ir) and torch.equal(test.vi, pair.vi)
        assert (warp(test.ir[None], test.flow[None])[0] - test.ir_warp).abs().max() < 0.51 / 255
        assert 0.1 < test.flow.norm(dim=0).mean() < 20


def test_the_seed_and_the_name_decide(aligned):
    whole = contents(make(aligned, "one"))
    assert contents(make(aligned, "two", "--seed", "0")) == whole
    assert contents(make(aligned, "three", "--seed", "1")).keys() == whole.keys()
    assert contents(aligned / "three" / "S" / "test")["flow/a.mat"] != whole["flow/a.mat"]
    for modality in ("ir", "vi"):
        (aligned / modality / "a.png").unlink()
    part = contents(make(aligned, "four"))
    assert part == {path: data for path, data in whole.items() if not path.endswith(("/a.png", "/a.mat"))}


def test_no_band(aligned):
    make(aligned, "band")
    make(aligned, "none", "--band", "none")
    for with_band, cropped in zip(paired.test_set(aligned / "band", "S"), paired.test_set(aligned / "none", "S")):
        rows, columns = central_rectangle(valid_mask(with_band.flow[None])[0, 0])
        for part in ("ir", "vi", "ir_warp"):
            assert torch.equal(getattr(cropped, part), getattr(with_band, part)[:, rows, columns])
        assert torch.allclose(cropped.flow, with_band.flow[:, rows, columns], atol=1e-4)
        assert cropped.ir_warp.min() > 0.19
        assert SIZE[0] * SIZE[1] / 2 < cropped.ir_warp[0].numel() < SIZE[0] * SIZE[1]


def test_bad_pairs_are_named_and_the_rest_is_made(aligned):
    write_image(aligned / "ir" / "b.png", torch.rand(1, 50, 80))
    (aligned / "vi" / "c.png").write_bytes(b"")
    with pytest.raises(UserError) as error:
        make(aligned, "root")
    first, second = str(error.value).split("\nerror: ")
    assert first == "b: the images differ in size (height x width): 50x80 and 61x80; they must be aligned"
    assert "c.png: not a readable image" in second
    assert paired.test_set(aligned / "root", "S").names == ["a"]


def test_what_there_is_to_tell_of_the_pairs_is_told(aligned, capsys):
    for path in (aligned / "ir").iterdir():
        path.write_bytes((aligned / "vi" / path.name).read_bytes())
        path.rename(path.with_name(f"ir_{path.name}"))
    make(aligned, "root")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    same = "IR and VI are the same picture"
    assert told[0].startswith("note: names pair up once") and told[1:] == [f"note: a: {same}", f"note: 2 more: {same}"]


def test_a_set_is_never_overwritten(aligned):
    make(aligned, "root")
    with pytest.raises(UserError, match="exists already"):
        make(aligned, "root")


def test_a_deformation_that_leaves_nothing(monkeypatch, aligned):
    monkeypatch.setattr(deformation, "true_displacement", lambda name, size, seed: torch.full((1, 2, *size), 1e4))
    with pytest.raises(UserError, match="a: .*no central rectangle; choose another seed"):
        make(aligned, "root", "--band", "none")


# Unlike cameras


def test_camera_sets_read_back(aligned):
    folder = make(aligned, "root", "--cameras")
    assert sorted(path.name for path in folder.iterdir()) == ["ir", "truth.json", "vi"]
    made, source = paired.test_set(aligned / "root", "S"), paired.PairedFolders(aligned / "ir", aligned / "vi")
    assert made.names == source.names and made.has_vi_to_ir and not made.has_flow
    for test, pair in zip(made, source):
        expected = unlike_cameras(pair, 0)
        assert torch.equal(test.vi, pair.vi) and torch.allclose(test.vi_to_ir, expected.vi_to_ir)
        assert (test.ir - expected.ir).abs().max() < 0.51 / 255


def test_the_cameras_follow_the_options(aligned):
    options = ("--cameras", "--sensors", "64x48", "--view", "0.5", "0.5", "--rotation", "0", "--tilt", "0")
    make(aligned, "root", *options)
    for pair in paired.test_set(aligned / "root", "S"):
        assert pair.ir.shape == (1, 48, 64)
        scale = 64 / (0.5 * SIZE[1])
        assert torch.allclose(pair.vi_to_ir[:2, :2], torch.eye(2, dtype=torch.float64) * scale)


def test_a_part_of_a_camera_set_is_the_same(aligned):
    whole = contents(make(aligned, "one", "--cameras"))
    for modality in ("ir", "vi"):
        (aligned / modality / "a.png").unlink()
    write_image(aligned / "ir" / "b.png", torch.rand(1, 50, 80))
    with pytest.raises(UserError, match="b: the images differ in size"):
        make(aligned, "two", "--cameras")
    part = contents(aligned / "two" / "S" / "test")
    truth, all_truths = json.loads(part.pop("truth.json")), json.loads(whole["truth.json"])
    assert truth == {"c": all_truths["c"]} and part == {name: whole[name] for name in ("ir/c.png", "vi/c.png")}


@pytest.mark.parametrize(
    "options",
    [
        ("--cameras", "--band", "none"),
        ("--rotation", "20"),
        ("--cameras", "--view", "0.5", "1.5"),
        ("--cameras", "--tilt", "0.5"),
        ("--cameras", "--sensors", "640"),
        ("--cameras", "--sensors", "0x48"),
    ],
)
def test_options_that_make_no_camera_are_refused(aligned, options):
    with pytest.raises(SystemExit) as ended:
        make(aligned, "root", *options)
    assert ended.value.code == 2 and not (aligned / "root").exists()
