"""Video files and sequences: frames, rates and times survive; what is damaged is named; an interrupted file plays."""

import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch

from utils.errors import UserError
from utils.files.images import write_image
from utils.files.infrared import Reading
from utils.files.video import (
    ImageSequence,
    InfraredFrames,
    Video,
    VideoWriter,
    is_sequence,
    is_video,
    lockstep,
    open_video,
)


def picture(level: float, height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.full((3, height, width), level)


def write(path, levels, rate, size=(48, 64)):
    with VideoWriter(path, Fraction(rate)) as writer:
        for number, level in enumerate(levels):
            writer.write(picture(level, *size), number / rate)
    return path


def levels(frames) -> list[float]:
    return [float(frame.visible()[0].mean()) for frame in frames]


def test_frames_and_times_survive(tmp_path):
    video = Video(write(tmp_path / "a.mp4", [0.1, 0.5, 0.9], 10))
    assert (video.rate, video.count) == (10, 3)
    frames = list(video)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2], abs=1e-3)
    assert levels(frames) == pytest.approx([0.1, 0.5, 0.9], abs=0.01)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_colours_survive_and_odd_sides_are_widened(tmp_path):
    colour = torch.tensor([0.8, 0.2, 0.1]).view(3, 1, 1).expand(3, 49, 65)
    with VideoWriter(tmp_path / "a.mp4", Fraction(5)) as writer:
        writer.write(colour, 0)
    (frame,) = open_video(tmp_path / "a.mp4")
    image = frame.visible()[0]
    assert image.shape == (3, 50, 66)
    assert image.mean((1, 2)).tolist() == pytest.approx([0.8, 0.2, 0.1], abs=0.02)


def test_an_interrupted_video_plays(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with VideoWriter(tmp_path / "a.mp4", Fraction(10)) as writer:
            for number in range(4):
                writer.write(picture(0.2 * number), number / 10)
            raise KeyboardInterrupt
    assert len(list(Video(tmp_path / "a.mp4"))) == 4


def test_no_frame_no_file(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", Fraction(10)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_turned_phone_is_turned_back(tmp_path):
    image = torch.zeros(3, 48, 64)
    image[:, :24, :32] = 1.0
    with VideoWriter(tmp_path / "a.mp4", Fraction(5)) as writer:
        writer.write(image, 0)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44  # of the track's header; a quarter turn clockwise, as a phone writes it
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    (frame,) = Video(tmp_path / "a.mp4")
    shown = frame.visible()[0]
    assert shown.shape == (3, 64, 48)
    assert shown[:, :30, 26:].mean() > 0.95 and shown[:, 34:].mean() < 0.05 and shown[:, :, :22].mean() < 0.05


def test_deep_gray_frames_are_stretched_not_reduced(tmp_path):
    counts = np.linspace(7000, 7300, 48 * 64).reshape(48, 64).astype(np.uint16)
    with av.open(str(tmp_path / "t.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=9)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray16le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(counts, format="gray16le")))
        container.mux(stream.encode(None))
    (frame,) = video = Video(tmp_path / "t.mkv")
    assert np.array_equal(frame.thermal(None, "auto").values[0].numpy(), counts)
    given = InfraredFrames(video, Reading(stretch=(7000, 7300))).read(frame).image
    assert np.abs(given[0].numpy() - (counts - 7000.0) / 300).max() < 1e-5
    of_all = InfraredFrames(video, Reading()).read(frame)
    assert of_all.range == pytest.approx((7001.5, 7298.5), abs=1) and "percentiles of the set" in of_all.statement


def test_false_colours_are_turned_back_through_the_compression(tmp_path):
    gray = np.tile(np.linspace(0, 255, 96).round().astype(np.uint8), (64, 1))
    colours = cv2.applyColorMap(gray, cv2.COLORMAP_JET)[:, :, ::-1].copy()
    with VideoWriter(tmp_path / "jet.mp4", Fraction(5)) as writer:
        writer.write(torch.from_numpy(colours).permute(2, 0, 1) / 255, 0)
    video = open_video(tmp_path / "jet.mp4")
    (found,) = map(InfraredFrames(video, Reading()).read, video)
    assert found.image.shape == (1, 64, 96) and "false colours (jet)" in found.notes[0]
    assert np.abs(found.image[0].numpy() - gray / 255).mean() < 0.02


def test_a_sequence_follows_the_numbers_in_its_names(tmp_path):
    for number in (0, 5, 10, 100):
        write_image(tmp_path / f"frame_{number}.png", picture(number / 100))
    cv2.imwrite(str(tmp_path / "other.png"), np.zeros((8, 8), np.uint8))
    for pattern in ("frame_*.png", "frame_%04d.png"):
        assert is_sequence(tmp_path / pattern) and is_video(tmp_path / pattern)
        sequence = open_video(tmp_path / pattern)
        assert levels(sequence) == pytest.approx([0, 0.05, 0.1, 1], abs=0.01) and sequence.count == 4
        assert [frame.time for frame in sequence] == [0, 0.04, 0.08, 0.12]
    with pytest.raises(UserError, match="no image file matches it"):
        ImageSequence(str(tmp_path / "nothing_*.png"))


@pytest.mark.parametrize("offset, expected", [(0, [0, 1, 2, 3]), (1, [1, 2, 3]), (-2, [0, 1])])
def test_equal_rates_go_frame_by_frame(tmp_path, offset, expected):
    steps = [0.2, 0.4, 0.6, 0.8]
    ir, vi = (Video(write(tmp_path / name, steps, 10)) for name in ("ir.mp4", "vi.mp4"))
    pairs = [(float(a.visible()[0].mean()), float(b.visible()[0].mean())) for a, b in lockstep(ir, vi, offset)]
    first = max(0, -offset)
    assert [a for a, _ in pairs] == pytest.approx([steps[i] for i in expected], abs=0.01)
    assert [b for _, b in pairs] == pytest.approx(steps[first : first + len(pairs)], abs=0.01)


def test_different_rates_go_by_time(tmp_path):
    ir = Video(write(tmp_path / "ir.mp4", [0.1, 0.5, 0.9], 10))  # at 0, 0.1, 0.2 s
    vi = Video(write(tmp_path / "vi.mp4", [0.5] * 12, 30))  # every 0.033 s, beyond IR's last frame
    found = levels(a for a, _ in lockstep(ir, vi))
    assert found == pytest.approx([0.1] * 2 + [0.5] * 3 + [0.9] * 3, abs=0.01)
    late = levels(a for a, _ in lockstep(ir, vi, 1))
    assert late == pytest.approx([0.5] * 2 + [0.9] * 3, abs=0.01)


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(UserError, match=r"a\.mp4: not a readable video"):
        Video(tmp_path / "a.mp4")
    whole = write(tmp_path / "b.mp4", [0.1, 0.5], 10).read_bytes()
    (tmp_path / "c.mp4").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UserError, match=r"c\.mp4: "):
        list(Video(tmp_path / "c.mp4"))
    with pytest.raises(UserError, match=r"d\.mp4: not a readable video"):
        Video(tmp_path / "d.mp4")
