"""The data set fetcher, on tiny made-up sources: layouts, splits, archives, downloads that break off, bad sources."""

import contextlib
import io
import re
import shutil
import subprocess
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets import prepare
from datasets.paired import PairedFolders
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
    """Put the files of ``folder`` into an archive, below the folder ``top``."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for inner in sorted(path for path in folder.rglob("*") if path.is_dir()):
                archive.writestr(f"{top}{inner.relative_to(folder).as_posix()}/", "")
            for name, data in contents(folder).items():
                archive.writestr(top + name, data)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, data in contents(folder).items():
                member = tarfile.TarInfo(top + name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def names(root, split, part="ir"):
    return sorted(path.name for path in (root / split / part).iterdir())


def expected_msrs(source):
    """What a small MSRS becomes: two names of four by day, and of four by night, are for validation."""
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
    assert "left out: 2 (the authors' registration test pairs" in capsys.readouterr().out


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
    assert "left out: 2 (videos" in capsys.readouterr().out  # c and d


# Fetching


@contextlib.contextmanager
def served(data, ranges, break_at=None):
    """Serve ``data``, without ``ranges`` always from its start; the first answer breaks off at ``break_at`` bytes."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers["Range"]
            requests.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if ranges and asked else 0
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : break_at if len(requests) == 1 else None])

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/archive/main.zip", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("ranges", (True, False))
def test_a_download_that_broke_off_goes_on(tmp_path, msrs, monkeypatch, ranges):
    data = pack(msrs, tmp_path / "a.zip", "MSRS-main/").read_bytes()
    with served(data, ranges, break_at=1000) as (url, requests):
        monkeypatch.setitem(prepare.SETS, "msrs", prepare.SETS["msrs"]._replace(url=url))
        command = ["msrs", "--root", str(tmp_path / "data")]
        with pytest.raises(UserError, match=f"{url}: .*1000 of {len(data)} bytes.*run the same command again"):
            prepare.main(command)
        (part,) = (tmp_path / "data" / "downloads").iterdir()
        assert part.suffix == ".part" and part.read_bytes() == data[:1000]
        prepare.main(command)
        assert requests == [None, "bytes=1000-"]
        assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)
        prepare.main(command)  # what is there is not fetched again
        assert len(requests) == 2
    (archive,) = (tmp_path / "data" / "downloads").iterdir()
    assert archive.suffix == ".zip" and archive.read_bytes() == data


def test_a_part_that_nothing_follows_is_fetched_anew(tmp_path):
    part = tmp_path / "x.part"
    part.write_bytes(b"12345")
    with served(b"abcde", ranges=True) as (url, requests):
        prepare.download(url, part)
    assert part.read_bytes() == b"abcde" and requests == ["bytes=5-", None]


def test_a_server_that_does_not_answer(tmp_path):
    with served(b"", ranges=False) as (url, _):
        pass
    with pytest.raises(UserError, match=f"{url}: .*refused.*; run the same command again"):
        prepare.main(["msrs", "--root", str(tmp_path), "--source", url])


def test_a_file_url(tmp_path, msrs):
    archive = pack(msrs, tmp_path / "a.tar.gz", "MSRS-main/")
    prepare.main(["msrs", "--root", str(tmp_path / "data"), "--source", archive.as_uri()])
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_git_repository(tmp_path, msrs):
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", str(msrs), *arguments], check=True)
    url = msrs.with_name("MSRS.git").as_uri()
    command = ["msrs", "--root", str(tmp_path / "data"), "--source", url]
    with pytest.raises(UserError, match=f"{url}: .*MSRS.git.*; run the same command again"):
        prepare.main(command)
    subprocess.run(["git", "clone", "-q", "--bare", str(msrs), str(msrs.with_name("MSRS.git"))], check=True)
    prepare.main(command)
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)
    half = tmp_path / "half.part"
    half.mkdir()
    (half / "rest").write_bytes(b"of an interrupted clone")
    prepare.clone(url, half)
    assert (half / "README.md").exists() and not (half / "rest").exists()


@pytest.mark.parametrize(
    "source, message",
    (
        ("nowhere", "nowhere: no such file or folder, and not a URL"),
        ("https://example.com/main.rar", "main.rar: neither an archive"),
        (__file__, "test_prepare.py: neither a folder nor an archive"),
    ),
)
def test_sources_of_no_kind(tmp_path, source, message):
    with pytest.raises(UserError, match=message):
        prepare.main(["msrs", "--root", str(tmp_path / "data"), "--source", source])


# Bad sources


def refused(set_name, source, root, message):
    """The source is refused with the message and nothing of a split is left."""
    with pytest.raises(UserError, match=message) as error:
        prepare.main([set_name, "--root", str(root), "--source", str(source)])
    assert "\n" not in str(error.value)
    assert not [path for path in root.glob("*/*") if not path.name.startswith(".")]


@pytest.mark.parametrize("name", ("a.zip", "a.tar", "a.tar.gz"))
def test_a_truncated_archive(tmp_path, msrs, name):
    archive = pack(msrs, tmp_path / name, "MSRS-main/")
    archive.write_bytes(archive.read_bytes()[:-3000])
    refused("msrs", archive, tmp_path / "data", f"{name}: (cannot be read|.*incomplete|.*not the whole)")


def test_an_archive_damaged_in_the_middle(tmp_path, msrs):
    archive = pack(msrs, tmp_path / "a.zip", "MSRS-main/")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 255
    archive.write_bytes(data)
    refused("msrs", archive, tmp_path / "data", "a.zip: cannot be read .*delete it and fetch it again")


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
        (lambda path: write_picture(path, 1, 3, (30, 24)), "vi", r"train/00002D.png differ .*ir 24x32, vi 24x30"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-50]),
            "ir",
            "a bad file in it: .*00002D.png: not a readable",
        ),
        (lambda path: write_label(path, 9), "Segmentation_labels", "00002D.png: holds class 9"),
        (lambda path: write_label(path, 1, (30, 24)), "Segmentation_labels", "label 24x30"),
    )
    for spoil, part, message in cases:
        path = msrs / "train" / part / "00002D.png"
        good = path.read_bytes()
        spoil(path)
        refused("msrs", msrs, tmp_path / "data", message)
        path.write_bytes(good)
    prepare.main(["msrs", "--root", str(tmp_path / "data"), "--source", str(msrs)])
    assert contents(tmp_path / "data" / "MSRS") == expected_msrs(msrs)  # and nothing of the attempts


def test_bad_videos(tmp_path, m3svd):
    path = m3svd / "Video" / "test" / "visible" / "b.mp4"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused("m3svd", m3svd, tmp_path / "data", "Video/test/visible/b.mp4 only points to Git LFS; give a clone")
    path.write_bytes(b"no video")
    refused("m3svd", m3svd, tmp_path / "data", "Video/test/visible/b.mp4 is not a readable video")
    write_video(path, 2, colour=True)
    refused("m3svd", m3svd, tmp_path / "data", "b.mp4 has fewer than 3 frames")


@pytest.mark.parametrize("name", ("a.zip", "a.tar.gz"))
@pytest.mark.parametrize("path", ("MSRS-main/../../evil.png", "/evil.png", "MSRS-main/train/ir/..\\evil.png"))
def test_paths_that_lead_out_of_an_archive(tmp_path, msrs, name, path):
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    archive = pack(msrs, folder / name, "MSRS-main/")
    if name == "a.zip":
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr(path, b"evil")
    else:
        archive.unlink()
        with tarfile.open(archive, "w:gz") as file:
            member = tarfile.TarInfo(path)
            member.size = 4
            file.addfile(member, io.BytesIO(b"evil"))
    refused("msrs", archive, folder / "data", "evil.png, a path that leads out of it")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_in_an_archive_are_not_followed(tmp_path, msrs):
    archive = tmp_path / "a.tar"
    (msrs / "train" / "ir" / "00002D.png").unlink()
    pack(msrs, archive, "MSRS-main/")
    with tarfile.open(archive, "a") as file:
        member = tarfile.TarInfo("MSRS-main/train/ir/00002D.png")
        member.type, member.linkname = tarfile.SYMTYPE, str(msrs / "train" / "ir" / "00001D.png")
        file.addfile(member)
    refused("msrs", archive, tmp_path / "data", "train/ir lacks 00002D.png")


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


def test_an_interrupted_run_leaves_no_split_and_is_gone_on_with(tmp_path, msrs, monkeypatch):
    read_image, written, calls = prepare.read_image, [], []
    write_bytes = prepare.write_bytes

    def interrupted(path):
        calls.append(path)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return read_image(path)

    command = ["msrs", "--root", str(tmp_path / "data"), "--source", str(msrs)]
    monkeypatch.setattr(prepare, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.main(command)
    root = tmp_path / "data" / "MSRS"
    assert [path.name for path in root.iterdir()] == [".prepare"]
    done = len(contents(root))
    (root / ".prepare" / "train" / "ir" / "99999D.png").parent.mkdir(parents=True, exist_ok=True)
    (root / ".prepare" / "train" / "ir" / "99999D.png").write_bytes(b"of another source")
    monkeypatch.setattr(prepare, "write_bytes", lambda path, data: (written.append(path), write_bytes(path, data)))
    prepare.main(command)
    assert len(written) == len(expected_msrs(msrs)) - done and done >= 10
    assert contents(root) == expected_msrs(msrs)


def test_a_split_with_other_files_is_left_alone(tmp_path, roadscene):
    root = tmp_path / "data" / "RoadScene"
    write_picture(root / "val" / "ir" / "FLIR_3.jpg", 0, 1)
    before = contents(root)
    with pytest.raises(UserError, match="FLIR_3.jpg: not a file of this split; move .*val away"):
        prepare.main(["roadscene", "--root", str(tmp_path / "data"), "--source", str(roadscene)])
    assert {name: data for name, data in contents(root).items() if not name.startswith(".")} == before
    assert not Path(root / "train").exists()
