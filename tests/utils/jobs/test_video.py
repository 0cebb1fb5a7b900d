"""Two videos become one: a known drift is followed, refused key frames stop it, Ctrl-C leaves what is done."""

import csv
import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from datasets.toy import toy_scene
from models import Pipeline, SuperFusion
from models.registration import Transform
from models.registration.averaging import anchors, distance
from models.warping import pixel_grid, sample
from utils.errors import UserError
from utils.files.infrared import Reading
from utils.files.video import Video, VideoWriter
from utils.jobs.video import VideoPair, fuse_video

SIZE = (144, 192)
FRAMES, DRIFT = 12, 0.75  # px of IR's content to the right, from frame to frame


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A scene that stands still in VI and drifts in IR, 12 frames of each at 10 a second."""
    folder = tmp_path_factory.mktemp("videos")
    scene = toy_scene(3, *SIZE)
    with VideoWriter(folder / "ir.mp4", Fraction(10)) as ir, VideoWriter(folder / "vi.mp4", Fraction(10)) as vi:
        for number in range(FRAMES):
            grid = pixel_grid(*SIZE, like=scene.ir)
            grid[:, 0] -= DRIFT * number
            ir.write(sample(scene.ir[None], grid, "border")[0], number / 10)
            vi.write(scene.vi, number / 10)
    return VideoPair(folder / "ir.mp4", folder / "vi.mp4")


def drifted(number: int) -> Transform:
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 2] = DRIFT * number
    return Transform(matrix, SIZE[::-1], SIZE[::-1])


def test_a_known_drift_is_followed(videos, tmp_path):
    pipeline = Pipeline(None, "structural", search="narrow")
    summary = fuse_video(pipeline, videos, tmp_path, "Reg", every=3, smooth=4, sheets=True)
    assert (summary["frames"], summary["key_frames"], summary["accepted"]) == (12, 4, 4)
    for number in (0, 3, 6, 9):
        found = Transform.load(tmp_path / "transform" / f"{number:06d}.json")
        assert distance(found, drifted(number), anchors(found)) < 1
    change = summary["transform_change_px"]
    assert change["before_smoothing"]["largest"] > 1.5 * DRIFT  # three frames' drift at once
    assert change["after_smoothing"]["largest"] < 1.4 * DRIFT
    shown = [frame.visible()[0] for frame in Video(tmp_path / "registered.mp4")]
    given = [frame.visible()[0] for frame in Video(videos.ir)]
    middle = (slice(None), slice(20, -20), slice(30, -30))
    assert len(shown) == 12
    assert (shown[-1] - shown[0])[middle].abs().mean() < 0.5 * (given[-1] - given[0])[middle].abs().mean()
    sheet = next(iter(Video(tmp_path / "sheets.mp4"))).visible()[0]
    assert sheet.shape[2] == 2 * SIZE[1] and sheet.shape[1] > SIZE[0]
    rows = list(csv.DictReader((tmp_path / "key_frames.csv").open()))
    assert [row["frame"] for row in rows] == ["0", "3", "6", "9"]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_a_fixed_transform_needs_no_key_frames_and_fuses(videos, tmp_path):
    torch.manual_seed(0)
    pipeline = Pipeline(SuperFusion(), "none")
    videos = VideoPair(videos.ir, videos.vi, offset=2, limit=3)
    summary = fuse_video(pipeline, videos, tmp_path, transform=drifted(2))
    assert summary["frames"] == 3 and "key_frames" not in summary
    assert summary["transform_change_px"]["after_smoothing"] == {"mean": 0, "largest": 0}
    assert summary["image_change_levels"]["vi"] < 1 and len(list(Video(tmp_path / "fused.mp4"))) == 3
    assert not (tmp_path / "sheets.mp4").exists() and not (tmp_path / "registered.mp4").exists()
    with pytest.raises(ValueError, match="VI is 192x144, but the transform is for 100x80"):
        fuse_video(pipeline, videos, tmp_path, transform=Transform.of_frames((100, 80), (192, 144)))


def test_ctrl_c_leaves_the_frames_so_far(videos, tmp_path, monkeypatch):
    pipeline, calls = Pipeline(SuperFusion(), "none"), []

    def interrupted(ir, vi, missing):
        calls.append(ir)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return vi

    monkeypatch.setattr(pipeline, "fuse", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fuse_video(pipeline, videos, tmp_path, "Fusion")
    assert len(list(Video(tmp_path / "fused.mp4"))) == 4
    assert json.loads((tmp_path / "summary.json").read_text())["frames"] == 4


def test_no_accepted_key_frame_is_an_error(videos, tmp_path):
    with pytest.raises(UserError, match="no key frame was accepted"):
        fuse_video(
            Pipeline(None, "structural", search="narrow"), VideoPair(videos.ir, _noise(tmp_path)), tmp_path / "o"
        )
    assert not list((tmp_path / "o").glob("*.mp4"))


def test_an_offset_beyond_the_videos_is_named(videos, tmp_path):
    with pytest.raises(UserError, match="none of its frames has one in .*ir.mp4; check --offset"):
        fuse_video(Pipeline(None, "none"), VideoPair(videos.ir, videos.vi, offset=50), tmp_path, "Reg", drifted(0))


def test_what_there_is_to_tell_of_frames_is_told_once(tmp_path, capsys):
    """Of IR holes from the second frame on; of VI 12 bits in 16."""
    scene = toy_scene(3, 64, 96)
    (tmp_path / "vi").mkdir()
    for number in range(3):
        values = scene.ir[0].numpy() * 30
        values[:20] = np.nan if number else values[:20]
        np.save(tmp_path / f"{number}.npy", values)
        deep = (scene.vi / scene.vi.max() * 4095).permute(1, 2, 0).flip(2).numpy().round().astype(np.uint16)
        cv2.imwrite(str(tmp_path / "vi" / f"{number}.png"), deep)
    shown = []
    for bits in (None, 16):
        videos = VideoPair(tmp_path / "*.npy", tmp_path / "vi" / "*.png", reading=Reading(vi_bits=bits))
        fuse_video(Pipeline(None, "none"), videos, tmp_path, "Reg", Transform.of_frames((96, 64), (96, 64)))
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        told_of_vi = [line for line in told if "VI holds 12 bits in a 16-bit file" in line]
        assert [line[:13] for line in told_of_vi] == ([] if bits else ["note: frame 0", "note: 2 more:"])
        assert [line[:13] for line in told if "missing pixels" in line] == ["note: frame 1", "note: 1 more:"]
        shown.append(next(iter(videos.open()[1])).visible()[0])
    assert torch.allclose(shown[0], 65535 / 4095 * shown[1])


def test_one_video_on_both_sides_and_swapped_ones_are_told(videos, tmp_path, capsys):
    still, reading = Transform.of_frames(SIZE[::-1], SIZE[::-1]), Reading(colours="keep")
    for ir, vi, told in ((videos.ir, videos.ir, "the same picture"), (videos.vi, videos.ir, "swapped?")):
        pair = VideoPair(ir, vi, limit=2, reading=reading)
        fuse_video(Pipeline(None, "none"), pair, tmp_path, "Reg", still)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        assert line.startswith("note: frame 0: IR ") and told in line


def _noise(folder):
    generator = torch.Generator().manual_seed(0)
    with VideoWriter(folder / "noise.mp4", Fraction(10)) as writer:
        for number in range(2):
            writer.write(torch.rand(3, *SIZE, generator=generator), number / 10)
    return folder / "noise.mp4"
