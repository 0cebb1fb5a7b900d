"""Paired folders and the layouts of the test sets."""

import cv2
import numpy as np
import pytest
import scipy.io
import torch

from datasets import paired
from datasets.paired import PairedFolders, read_flow, read_label
from models.warping import flow_to_grid
from utils.errors import UserError


def write(path, channels=1, size=(32, 40), dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    cv2.imwrite(str(path), rng.integers(0, np.iinfo(dtype).max, (*size, channels), dtype=dtype))


def test_pairs_by_stem_whatever_the_extension(tmp_path):
    write(tmp_path / "ir" / "b.tif", dtype=np.uint16)
    write(tmp_path / "ir" / "a.png")
    write(tmp_path / "vi" / "a.jpg", channels=3)
    write(tmp_path / "vi" / "b.bmp", channels=3)
    (tmp_path / "vi" / "notes.txt").write_text("not an image")
    pairs = PairedFolders(tmp_path / "ir", tmp_path / "vi")
    assert pairs.names == ["a", "b"] and len(pairs) == 2
    assert pairs[1].name == "b" and pairs[1].ir.shape == (1, 32, 40) and pairs[1].vi.shape == (3, 32, 40)
    assert pairs[1].ir.max() == 1 and pairs[1].flow is None


def test_two_files_are_a_pair_whatever_their_names(tmp_path):
    write(tmp_path / "thermal.png", size=(20, 30))
    write(tmp_path / "visible.jpg", channels=3)
    pairs = PairedFolders(tmp_path / "thermal.png", tmp_path / "visible.jpg")
    assert pairs.names == ["visible"] and pairs[0].ir.shape == (1, 20, 30)


def test_what_is_missing_is_named(tmp_path):
    write(tmp_path / "ir" / "a.png")
    write(tmp_path / "vi" / "a.png")
    write(tmp_path / "vi" / "b.png")
    with pytest.raises(UserError, match="ir: no ir image for b"):
        PairedFolders(tmp_path / "ir", tmp_path / "vi")
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        PairedFolders(tmp_path / "nowhere", tmp_path / "vi")
    with pytest.raises(UserError, match="a.png: a file, but its partner is not"):
        PairedFolders(tmp_path / "ir" / "a.png", tmp_path / "vi")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no images"):
        PairedFolders(tmp_path / "empty", tmp_path / "vi")
    write(tmp_path / "vi" / "a.jpg")
    with pytest.raises(UserError, match="same stem"):
        PairedFolders(tmp_path / "ir", tmp_path / "vi")


@pytest.mark.parametrize("layout", ["MSRS/test", "test/MSRS", "dataset/test/MSRS"])
@pytest.mark.parametrize("mat", ["a.mat", "a.png.mat"])
def test_the_layouts_of_the_test_sets(tmp_path, layout, mat):
    folder = tmp_path / layout
    for part in ("ir", "vi", "ir_warp"):
        write(folder / part / "a.png")
    flow = torch.randn(1, 2, 32, 40)
    (folder / "flow").mkdir()
    scipy.io.savemat(folder / "flow" / mat, {"flow": flow_to_grid(flow).numpy()})
    pair = paired.test_set(tmp_path, "MSRS")[0]
    assert pair.ir_warp.shape == (1, 32, 40)
    assert torch.allclose(pair.flow, flow[0], atol=1e-4)


def test_bad_flow_files_are_named(tmp_path):
    with pytest.raises(UserError, match="a.mat: no such file"):
        read_flow(tmp_path, "a")
    (tmp_path / "a.mat").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="a.mat: not a readable flow"):
        read_flow(tmp_path, "a")
    scipy.io.savemat(tmp_path / "b.mat", {"flow": np.zeros((4, 5, 2))})
    with pytest.raises(UserError, match=r"b.mat: 'flow' has shape \(4, 5, 2\)"):
        read_flow(tmp_path, "b")
    with pytest.raises(UserError, match="must hold RoadScene"):
        paired.test_set(tmp_path, "RoadScene")


def write_label(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.asarray(values, np.uint8))


def test_labels_come_with_the_visible_image(tmp_path):
    write(tmp_path / "S" / "test" / "ir" / "a.png", size=(16, 20))
    write(tmp_path / "S" / "test" / "vi" / "a.png", channels=3)
    label = np.arange(32 * 40).reshape(32, 40) % 9
    label[0] = 255
    write_label(tmp_path / "S" / "test" / "label" / "a.png", label)
    pairs = paired.test_set(tmp_path, "S", label=True)
    pair = pairs[0].in_vi_frame()
    assert pairs.has_label and pair.ir.shape == (1, 32, 40)
    assert pair.label.dtype == torch.int64 and np.array_equal(pair.label, label)
    folder = tmp_path / "S" / "test"
    assert PairedFolders(folder / "ir", folder / "vi")[0].label is None
    write(folder / "label" / "b.png")  # a label without its images matters only where labels do
    assert not paired.test_set(tmp_path, "S").has_label and paired.test_set(tmp_path, "S")[0].label is None
    with pytest.raises(UserError, match="no ir image for b"):
        paired.test_set(tmp_path, "S", label=True)
    single = PairedFolders(*(folder / part / "a.png" for part in ("ir", "vi")), label=folder / "label" / "a.png")
    assert torch.equal(single[0].label, pair.label)


def test_bad_labels_are_named(tmp_path):
    for part in ("ir", "vi"):
        write(tmp_path / part / "a.png")
    write_label(tmp_path / "label" / "a.png", np.full((32, 40), 8))
    pairs = PairedFolders(tmp_path / "ir", tmp_path / "vi", label=tmp_path / "label", num_classes=5)
    with pytest.raises(UserError, match="label/a.png: holds class 8, expected 0..4, or 255"):
        pairs[0]
    write_label(tmp_path / "label" / "a.png", np.zeros((32, 41)))
    with pytest.raises(UserError, match="label/a.png: the label and the visible image of a differ in size"):
        pairs[0]
    with pytest.raises(UserError, match="a.png: no such file"):
        read_label(tmp_path / "a.png")
    write(tmp_path / "c.png", channels=3)
    write(tmp_path / "d.png", dtype=np.uint16)
    write(tmp_path / "e.jpg")
    for name, kind in (("c.png", "PNG of mode RGB"), ("d.png", "PNG of mode I;16"), ("e.jpg", "JPEG of mode L")):
        with pytest.raises(UserError, match=f"{name}: a {kind}; a class map is an 8-bit PNG of one channel"):
            read_label(tmp_path / name)
    (tmp_path / "f.png").write_bytes((tmp_path / "c.png").read_bytes()[:300])
    with pytest.raises(UserError, match="f.png: not a readable class map"):
        read_label(tmp_path / "f.png")
    write(tmp_path / "vi" / "b.png")
    write(tmp_path / "ir" / "b.png")
    with pytest.raises(UserError, match="label: no label image for b"):
        PairedFolders(tmp_path / "ir", tmp_path / "vi", label=tmp_path / "label")
