"""The public sets, on tiny synthetic sources: layouts and splits, checks, and repeated runs."""

import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets import prepare
from datasets.paired import PairedFolders
from datasets.paired import test_set as camera_set
from utils.errors import UserError, run

SIZE = (32, 24)
MSRS = {"train": [f"0000{i}{'D' if i < 5 else 'N'}.png" for i in range(1, 9)], "test": ["00009D.png", "00010N.png"]}


def write_picture(path, seed, channels, size=SIZE):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(path)


def write_label(path, value, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


@pytest.fixture
def msrs(tmp_path, monkeypatch):
    """A clone of a small MSRS: 8 training pairs, 4 by day and 4 by night, and 2 test pairs."""
    monkeypatch.setattr(prepare, "MSRS_PAIRS", {group: len(names) for group, names in MSRS.items()})
    monkeypatch.setattr(prepare, "MSRS_VAL", 2)
    folder = tmp_path / "MSRS-main"
    for group, names in MSRS.items():
        for name in names:
            write_picture(folder / group / "ir" / name, int(name[:5]), 1)
            write_picture(folder / group / "vi" / name, 100 + int(name[:5]), 3)
            write_label(folder / group / "Segmentation_labels" / name, int(name[4]) % 9)
    write_picture(folder / "detection" / "ir" / "1.png", 0, 1)
    (folder / "README.md").write_text("MSRS")
    return folder


@pytest.fixture
def roadscene(tmp_path, monkeypatch):
    """A clone of a small RoadScene: of 7 pairs 3 are listed for training, 2 for validation."""
    folder, lists = tmp_path / "RoadScene", tmp_path / "splits"
    for index in range(7):
        write_picture(folder / "cropinfrared" / f"FLIR_{index}.jpg", index, 1)
        write_picture(folder / "crop_LR_visible" / f"FLIR_{index}.jpg", 100 + index, 3)
        write_picture(folder / "crop_HR_visible" / f"FLIR_{index}.jpg", 200 + index, 3)
    lists.mkdir()
    (lists / "RoadScene_train.txt").write_text("# a comment\nFLIR_0.jpg\nFLIR_2.jpg\nFLIR_5.jpg\n")
    (lists / "RoadScene_val.txt").write_text("FLIR_1.jpg\nFLIR_6.jpg\n")
    monkeypatch.setattr(prepare, "SPLITS", lists)
    return folder


# From pixels of the thermal crop to those of the whole thermal frame.
CROP_TO_WHOLE = np.array([[1.1, 0.03, 30.0], [-0.02, 1.2, 20.0], [1e-4, -5e-5, 1.0]])
CROP, VISIBLE, WHOLE = (201, 141), (501, 351), (320, 256)  # width, height; VISIBLE has a reduction of 2.5


def write_gray(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)


@pytest.fixture
def two_cameras(tmp_path, monkeypatch):
    """A clone of a small RoadScene whose thermal crops are seen in the whole frames; of 3 pairs 2 are listed."""
    folder, lists = tmp_path / "RoadScene", tmp_path / "splits"
    for index in range(3):
        coarse, fine = (np.random.default_rng(seed).uniform(0, 255, (n, n)) for seed, n in ((index, 20), (9, 80)))
        scenes = [
            cv2.resize(noise.astype(np.float32), WHOLE, interpolation=cv2.INTER_CUBIC) for noise in (coarse, fine)
        ]
        whole = np.clip(0.6 * scenes[0] + 0.4 * scenes[1], 0, 255)
        crop = cv2.warpPerspective(whole, CROP_TO_WHOLE, CROP, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        write_gray(folder / "infrared" / f"FLIR_{index}.jpg", whole)
        write_gray(folder / "cropinfrared" / f"FLIR_{index}.jpg", crop.clip(0, 255))
        write_picture(folder / "crop_HR_visible" / f"FLIR_{index}.jpg", index, 3, VISIBLE)
    lists.mkdir()
    (lists / "RoadScene_rig.txt").write_text("# a comment\nFLIR_0.jpg\nFLIR_2.jpg\n")
    monkeypatch.setattr(prepare, "SPLITS", lists)
    return folder


def write_video(path, count, colour):
    """A video whose frame i has the gray value 5 i, or that in green only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (64, 48))
    for index in range(count):
        value = 5 * index
        writer.write(np.full((48, 64, 3), (0, value, 0) if colour else (value, value, value), np.uint8))
    writer.release()


@pytest.fixture
def m3svd(tmp_path, monkeypatch):
    """A clone of a small M3SVD: clip a to train on, b to validate on; c without its visible video, d not listed."""
    folder, lists = tmp_path / "M3SVD", tmp_path / "splits"
    for clip in "abcd":
        write_video(folder / "Video" / "test" / "infrared" / f"{clip}.mp4", 11, colour=False)
    for clip in "abd":
        write_video(folder / "Video" / "test" / "visible" / f"{clip}.mp4", 10, colour=True)
    lists.mkdir()
    (lists / "M3SVD_train.txt").write_text("a.mp4\nc.mp4 ?\n")
    (lists / "M3SVD_val.txt").write_text("b.mp4 ?\n")
    monkeypatch.setattr(prepare, "SPLITS", lists)
    monkeypatch.setattr(prepare, "FRAMES", 3)
    return folder


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def pack(folder, path, top):
    """Archive the content of ``folder`` below the folder ``top``."""
    zipped = path.suffix == ".zip"
    mode = "w:gz" if path.suffix == ".gz" else "w"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) if zipped else tarfile.open(path, mode) as archive:
        for inner in sorted(folder.rglob("*")):
            name = top + inner.relative_to(folder).as_posix()
            archive.write(inner, name) if zipped else archive.add(inner, name, recursive=False)
    return path


def names(root, split, part="ir"):
    return sorted(path.name for path in (root / split / part).iterdir())


def expected_msrs(source):
    """The expected files of a small MSRS: two of four pairs by day, and two of four by night, are for validation."""
    val = {"00001D.png", "00003D.png", "00005N.png", "00007N.png"}
    parts = {"ir": "ir", "vi": "vi", "label": "Segmentation_labels"}
    return {
        f"{'val' if name in val else group}/{part}/{name}": (source / group / folder / name).read_bytes()
        for group, group_names in MSRS.items()
        for name in group_names
        for part, folder in parts.items()
    }


# Layouts and splits


def test_msrs_from_a_clone(tmp_path, msrs, capsys):
    root = tmp_path / "my data"
    prepare.main(["msrs", "--root", str(root), "--source", str(msrs)])
    assert contents(root / "MSRS") == expected_msrs(msrs)
    assert sorted(path.name for path in (root / "MSRS").iterdir()) == ["test", "train", "val"]
    for split, count in (("train", 4), ("val", 4), ("test", 2)):
        folder = root / "MSRS" / split
        pairs = PairedFolders(folder / "ir", folder / "vi", label=folder / "label")
        assert len(pairs) == count and all(pair.label.shape == pair.ir.shape[-2:] for pair in pairs)
    printed = capsys.readouterr().out
    assert re.search(r"test +2 pairs\n +train +4 pairs\n +val +4 pairs", printed) and "PIAFusion" in printed
    assert f"train.py --config configs/rf_msrs.yaml --out runs/rf_msrs --set 'data.root={root}'" in printed
    assert "left out" not in printed


@pytest.mark.parametrize("name", ("a.zip", "a.tar", "a.tar.gz"))
@pytest.mark.parametrize("top", ("", "MSRS-main/", "downloads/sets/MSRS-main/"))
def test_msrs_from_an_archive(tmp_path, msrs, name, top):
    archive = pack(msrs, tmp_path / name, top)
    prepare.main(["msrs", "--root", str(tmp_path / "data"), "--source", str(archive)])
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)


def test_the_shallowest_whole_copy_counts(tmp_path, msrs):
    outer = tmp_path / "outer"
    shutil.copytree(msrs, outer / "b")
    shutil.copytree(msrs, outer / "a" / "old")
    write_picture(outer / "a" / "old" / "train" / "ir" / "00001D.png", 99, 1)
    shutil.copytree(msrs / "train", outer / "train")
    prepare.main(["msrs", "--root", str(tmp_path / "data"), "--source", str(outer)])
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)


def test_msrs_validation_is_balanced():
    train = sorted([f"{i:05d}D.png" for i in range(0, 536)] + [f"{i:05d}N.png" for i in range(300, 847)])
    val = prepare.msrs_val(train)
    assert len(train) == prepare.MSRS_PAIRS["train"] == 1083 and prepare.MSRS_PAIRS["test"] == 361
    assert len(val) == 60 and sum(name.endswith("D.png") for name in val) == 30 and val < set(train)


def test_roadscene_leaves_the_excluded_pairs_out(tmp_path, roadscene, capsys):
    archive = pack(roadscene, tmp_path / "r.zip", "RoadScene-master/")
    prepare.main(["roadscene", "--root", str(tmp_path / "data"), "--source", str(archive)])
    root = tmp_path / "data" / "RoadScene"
    for part, folder in (("ir", "cropinfrared"), ("vi", "crop_LR_visible")):
        assert names(root, "train", part) == ["FLIR_0.jpg", "FLIR_2.jpg", "FLIR_5.jpg"]
        assert names(root, "val", part) == ["FLIR_1.jpg", "FLIR_6.jpg"]
        assert (root / "val" / part / "FLIR_6.jpg").read_bytes() == (roadscene / folder / "FLIR_6.jpg").read_bytes()
    assert not [path for path in root.rglob("*") if path.name in ("FLIR_3.jpg", "FLIR_4.jpg", "test")]
    assert "left out: 2 (in no list" in capsys.readouterr().out


@pytest.mark.parametrize("name, train, val", (("RoadScene", 170, 19), ("M3SVD", 23, 5)))
def test_the_committed_lists(name, train, val):
    lists = {}
    for split in ("train", "val"):
        lines = (prepare.SPLITS / f"{name}_{split}.txt").read_text().splitlines()
        lists[split] = [line.removesuffix(" ?") for line in lines if not line.startswith("#")]
        pattern = r"FLIR_(video_)?\d{5}\.jpg" if name == "RoadScene" else r"\d{4}_\d{4}\.mp4"
        assert all(re.fullmatch(pattern, line) for line in lists[split])
    assert (
        (len(set(lists["train"])), len(set(lists["val"]))) == (len(lists["train"]), len(lists["val"])) == (train, val)
    )
    assert not set(lists["train"]) & set(lists["val"])


def test_m3svd_required_clips():
    required = {
        split: {line for line in (prepare.SPLITS / f"M3SVD_{split}.txt").read_text().splitlines() if line[-1] == "4"}
        for split in ("train", "val")
    }
    assert required["val"] == {"0117_1620.mp4"}
    assert required["train"] == {"0111_1716.mp4", "0113_1714.mp4", "0117_1605.mp4", "1230_1202.mp4"}


def test_m3svd_frames(tmp_path, m3svd, capsys):
    archive = pack(m3svd, tmp_path / "m.zip", "M3SVD-main/")
    prepare.main(["m3svd", "--root", str(tmp_path / "data"), "--source", str(archive)])
    root = tmp_path / "data" / "M3SVD"
    # The shorter video has 10 frames: every third.
    for split, clip in (("train", "a"), ("val", "b")):
        for part in ("ir", "vi"):
            assert names(root, split, part) == [f"v{clip}_{index:04d}.png" for index in (0, 3, 6)]
    for index in (0, 3, 6):
        with Image.open(root / "train" / "ir" / f"va_{index:04d}.png") as ir:
            assert ir.mode == "L" and abs(np.asarray(ir).mean() - 5 * index) < 4
        with Image.open(root / "train" / "vi" / f"va_{index:04d}.png") as vi:
            red, green, blue = np.asarray(vi).reshape(-1, 3).mean(0)
            assert vi.mode == "RGB" and abs(green - 5 * index) < 4 and red < 4 and blue < 4
    assert "left out: 2 (in no list of splits, or without a partner)" in capsys.readouterr().out  # d and c


def test_the_default_source_is_fetched_once(tmp_path, msrs, monkeypatch):
    archive = pack(msrs, tmp_path / "a.tar.gz", "MSRS-main/")
    monkeypatch.setitem(prepare.SETS, "msrs", prepare.SETS["msrs"]._replace(url=archive.as_uri()))
    command = ["msrs", "--root", str(tmp_path / "data")]
    prepare.main(command)
    archive.unlink()
    prepare.main(command)
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)
    assert [path.suffix for path in (tmp_path / "data" / "downloads").iterdir()] == [".gz"]


def test_roadscene_rig_with_the_true_maps(tmp_path, two_cameras, capsys):
    root = tmp_path / "data"
    prepare.main(["roadscene_rig", "--root", str(root), "--source", str(two_cameras)])
    folder = root / "RoadScene" / "rig"
    assert sorted(path.name for path in folder.iterdir()) == ["ir", "truth.json", "vi"]
    for part, source in (("ir", "infrared"), ("vi", "crop_HR_visible")):
        assert contents(folder / part) == {
            name: (two_cameras / source / name).read_bytes() for name in ("FLIR_0.jpg", "FLIR_2.jpg")
        }
    pairs = camera_set(root / "RoadScene", "rig")
    assert pairs.names == ["FLIR_0", "FLIR_2"]
    # Pixel i of the visible crop lies at (i - 0.5) / 2.5 + 0.5 of the thermal one.
    points = np.mgrid[0:501:50, 0:351:50].reshape(2, 1, -1).T.astype(float)
    expected = cv2.perspectiveTransform((points - 0.5) / 2.5 + 0.5, CROP_TO_WHOLE)
    for pair in pairs:
        assert pair.ir.shape[-2:] == WHOLE[::-1] and pair.vi.shape[-2:] == VISIBLE[::-1]
        found = cv2.perspectiveTransform(points, pair.vi_to_ir.numpy())
        assert np.abs(found - expected).max() < 0.25
    printed = capsys.readouterr().out
    assert re.search(r"rig +2 pairs\nleft out: 1 ", printed)
    assert f"next:     python test.py --mode Reg --dataset_name rig --data_root {root / 'RoadScene'}\n" in printed


def test_roadscene_rig_stands_beside_the_aligned_pairs(tmp_path, two_cameras):
    root = tmp_path / "data"
    write_picture(root / "RoadScene" / "train" / "ir" / "FLIR_3.jpg", 0, 1)
    command = ["roadscene_rig", "--root", str(root), "--source", str(two_cameras)]
    prepare.main(command)
    before = contents(root)
    (root / "RoadScene" / "rig" / "truth.json").write_text("{}")
    prepare.main(command)
    assert contents(root) == before and "RoadScene/train/ir/FLIR_3.jpg" in before


# Bad sources


def refused(set_name, source, root, message):
    """The source is refused with the message and nothing of a split is left."""
    with pytest.raises(UserError, match=message) as error:
        prepare.main([set_name, "--root", str(root), "--source", str(source)])
    assert "\n" not in str(error.value)
    assert not [path for path in root.glob("*/*") if not path.name.startswith(".")]


@pytest.mark.parametrize(
    "gone, message",
    (
        ("train/vi/00003D.png", "MSRS-main: train/vi lacks 00003D.png; the source is incomplete"),
        ("test/ir/00009D.png", "test/ir lacks 00009D.png"),
        ("train/Segmentation_labels/00006N.png", "train/Segmentation_labels lacks 00006N.png"),
        ("train/*/00006N.png", "7 pairs in train, expected 8"),
        ("train/Segmentation_labels/*", "no files in train/Segmentation_labels"),
        ("*/*/*", "no files in train/ir, train/vi, .*; this is not the whole data set"),
    ),
)
def test_a_part_of_msrs(tmp_path, msrs, gone, message):
    for path in list(msrs.glob(gone)):
        path.unlink()
    refused("msrs", msrs, tmp_path / "data", message)


def test_a_part_of_roadscene(tmp_path, roadscene):
    for name in ("FLIR_5.jpg", "FLIR_3.jpg"):
        (roadscene / "crop_LR_visible" / name).unlink()
    refused("roadscene", roadscene, tmp_path / "data", "crop_LR_visible lacks FLIR_5.jpg; the source is incomplete")


def test_a_part_of_m3svd(tmp_path, m3svd):
    (m3svd / "Video" / "test" / "visible" / "a.mp4").unlink()
    refused("m3svd", m3svd, tmp_path / "data", "Video/test/visible lacks a.mp4")


def test_bad_pictures(tmp_path, msrs):
    cases = (
        (lambda path: write_picture(path, 1, 3, (30, 24)), "vi", "vi/00002D.png has 24 x 30 pixels .*partner 24 x 32"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "ir", "a bad file in it: .*2D.png: not a readable"),
        (lambda path: write_label(path, 9), "Segmentation_labels", "00002D.png: holds class 9"),
        (
            lambda path: write_label(path, 1, (30, 24)),
            "Segmentation_labels",
            "2D.png has 24 x 32 .*partner 24 x 30",
        ),
    )
    for spoil, part, message in cases:
        path = msrs / "train" / part / "00002D.png"
        good = path.read_bytes()
        spoil(path)
        refused("msrs", msrs, tmp_path / "data", message)
        path.write_bytes(good)
    prepare.main(["msrs", "--root", str(tmp_path / "data"), "--source", str(msrs)])
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)  # and nothing of the attempts


def test_bad_thermal_crops(tmp_path, two_cameras):
    crop = two_cameras / "cropinfrared" / "FLIR_2.jpg"
    write_picture(crop, 7, 1, CROP)
    message = (
        "cropinfrared/FLIR_2.jpg is not seen in infrared/FLIR_2.jpg through a homography: [0-9]+% of [0-9]+ matches"
    )
    refused("roadscene_rig", two_cameras, tmp_path / "data", message)
    write_gray(crop, np.full(CROP[::-1], 90))
    refused("roadscene_rig", two_cameras, tmp_path / "data", "not seen in .*: 0% of 0 matches")
    for content in (b"", b"no picture"):
        crop.write_bytes(content)
        refused("roadscene_rig", two_cameras, tmp_path / "data", "cropinfrared/FLIR_2.jpg is not a readable image")
    crop.unlink()
    refused("roadscene_rig", two_cameras, tmp_path / "data", "cropinfrared lacks FLIR_2.jpg")


def test_bad_videos(tmp_path, m3svd):
    path = m3svd / "Video" / "test" / "visible" / "b.mp4"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused("m3svd", m3svd, tmp_path / "data", "Video/test/visible/b.mp4 only points to Git LFS; give a clone")
    path.write_bytes(b"no video")
    refused("m3svd", m3svd, tmp_path / "data", "Video/test/visible/b.mp4 is not a readable video")
    write_video(path, 2, colour=True)
    refused("m3svd", m3svd, tmp_path / "data", "b.mp4 has fewer than 3 frames")


def test_a_bad_source_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["prepare", "roadscene", "--root", str(tmp_path), "--source", "nowhere"])
    with pytest.raises(SystemExit) as stop:
        run(prepare.main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: nowhere: no such file or folder, and not a URL\n"


# Running again


def test_running_again_keeps_and_repairs(tmp_path, msrs):
    command = ["msrs", "--root", str(tmp_path / "data"), "--source", str(msrs)]
    prepare.main(command)
    root = tmp_path / "data" / "MSRS"
    before = {path: path.stat().st_ino for path in root.rglob("*") if path.is_file()}
    removed, altered = root / "val" / "label" / "00003D.png", root / "train" / "ir" / "00002D.png"
    removed.unlink()
    altered.write_bytes(altered.read_bytes()[:-1] + b"?")
    (root / "train" / ".DS_Store").write_bytes(b"hidden files do no harm")
    prepare.main(command)
    (root / "train" / ".DS_Store").unlink()
    assert contents(root) == expected_msrs(msrs)
    after = {path: path.stat().st_ino for path in root.rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after[path]} <= {removed, altered}
    assert before[altered] != after[altered]


def test_an_interrupted_run_leaves_no_split(tmp_path, msrs, monkeypatch):
    read_image, calls = prepare.read_image, []

    def interrupted(path):
        calls.append(path)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return read_image(path)

    command = ["msrs", "--root", str(tmp_path / "data"), "--source", str(msrs)]
    root = tmp_path / "data" / "MSRS"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prepare, "read_image", interrupted)
        prepare.main(command)
    assert [path.name for path in root.iterdir()] == [".prepare"]
    write_picture(root / ".prepare" / "train" / "ir" / "99999D.png", 0, 1)  # of another source
    prepare.main(command)
    assert contents(root) == expected_msrs(msrs)


def test_what_a_refused_source_left_is_never_put_in_place(tmp_path, msrs):
    command = ["msrs", "--root", str(tmp_path / "data"), "--source"]
    prepare.main([*command, str(msrs)])
    other = shutil.copytree(msrs, tmp_path / "other")
    write_picture(other / "train" / "ir" / "00002D.png", 99, 1)
    (other / "train" / "vi" / "00008N.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="00008N.png: not a readable image"):
        prepare.main([*command, str(other)])
    prepare.main([*command, str(msrs)])
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)


def test_a_split_with_other_files_is_left_alone(tmp_path, roadscene):
    root = tmp_path / "data" / "RoadScene"
    write_picture(root / "val" / "ir" / "FLIR_3.jpg", 0, 1)
    before = contents(root)
    with pytest.raises(UserError, match="FLIR_3.jpg: not a file of this split; move the split away"):
        prepare.main(["roadscene", "--root", str(tmp_path / "data"), "--source", str(roadscene)])
    assert {name: data for name, data in contents(root).items() if not name.startswith(".")} == before
    assert not Path(root / "train").exists()
