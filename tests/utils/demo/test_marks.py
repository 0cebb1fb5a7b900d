"""Points marked in reduced pictures mean pixels of the files."""

import cv2
import numpy as np
import pytest
import torch

from utils.demo.marks import Marks, start_of
from utils.errors import UserError

CORNERS = [(20.0, 15.0), (100, 20), (90, 70), (25, 75)]


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "vi.png"), rng.integers(0, 255, (960, 1920, 3), dtype=np.uint8))
    np.save(tmp_path / "ir.npy", rng.normal(20, 5, (96, 128)).astype(np.float32))
    return tmp_path / "ir.npy", tmp_path / "vi.png"


def test_marks_are_pixels_of_the_file(files):
    vi = Marks.of_file(files[1], thermal=False)
    assert vi.picture.shape == (480, 960, 3) and vi.size == (1920, 960)
    vi.mark(10, 20)
    assert vi.positions().tolist() == [[20.5, 40.5]]
    ir = Marks.of_file(files[0], thermal=True)
    ir.mark(10, 20)
    assert ir.picture.shape == (96, 128, 3) and ir.positions().tolist() == [[10, 20]]
    files[0].write_bytes(b"no picture")
    with pytest.raises(UserError, match="not a readable image"):
        Marks.of_file(files[0], thermal=True)


def test_after_four_a_mark_moves_the_nearest(files):
    marks = Marks.of_file(files[0], thermal=True)
    for point in CORNERS:
        marks.mark(*point)
    marks.mark(95, 60)
    assert marks.points == [*CORNERS[:2], (95, 60), CORNERS[3]]


def test_drawn_marks_are_seen_and_leave_the_picture(files):
    marks = Marks.of_file(files[0], thermal=True)
    marks.mark(64, 48)
    assert (marks.drawn() != marks.picture)[40:56, 56:72].any() and (marks.drawn() == marks.picture)[:, :40].all()
    assert Marks().drawn() is None


def test_a_start_takes_marks_to_marks(files):
    ir, vi = Marks.of_file(files[0], thermal=True), Marks.of_file(files[1], thermal=False)
    with pytest.raises(UserError, match="0 points are marked in VI and 0 in IR; mark the same 4 in both"):
        start_of(vi, ir)
    for x, y in CORNERS:
        vi.mark(7 * x, 5 * y)
        ir.mark(x, y)
    start = start_of(vi, ir)
    assert (start.vi_size, start.ir_size) == ((1920, 960), (128, 96))
    assert torch.allclose(start.to_ir(vi.positions()), ir.positions(), atol=1e-6)
    ir.points.reverse()
    with pytest.raises(UserError, match="same order"):
        start_of(vi, ir)
