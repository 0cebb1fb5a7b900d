"""Paired folders and the layouts of the test sets."""

import json

import cv2
import numpy as np
import pytest
import scipy.io
import torch

from datasets import paired
from datasets.paired import PairedFolders, read_flow, read_label
from datasets.truth import Truth, read_truth, truth_file
from models.warping import flow_to_grid, resize
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
    with pytest.raises(UserError, match="vi: without a partner in .*ir: b.png"):
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


VI_TO_IR = torch.tensor([[0.5, 0.01, 2.0], [-0.02, 0.6, 1.0], [1e-4, 0.0, 1.0]], dtype=torch.float64)


def write_camera_pair(folder, name="a"):
    write(folder / "ir" / f"{name}.png", size=(20, 30))
    write(folder / "vi" / f"{name}.jpg", channels=3)
    (folder / "truth.json").write_bytes(truth_file({name: Truth(VI_TO_IR, (40, 32), (30, 20))}))
    return folder / "truth.json"


@pytest.mark.parametrize("layout", ["rig/test", "rig"])
def test_camera_sets_carry_the_true_map(tmp_path, layout):
    write_camera_pair(tmp_path / layout)
    pairs = paired.test_set(tmp_path, "rig")
    assert pairs.has_vi_to_ir and not pairs.has_flow
    assert torch.equal(pairs[0].vi_to_ir, VI_TO_IR) and pairs[0].ir.shape == (1, 20, 30)
    folder = tmp_path / layout
    plain = PairedFolders(folder / "ir", folder / "vi")
    assert not plain.has_vi_to_ir and plain[0].vi_to_ir is None


def test_a_folder_without_a_truth_is_no_test_set(tmp_path):
    write_camera_pair(tmp_path / "rig").unlink()
    with pytest.raises(UserError, match="rig/test: no such folder"):
        paired.test_set(tmp_path, "rig")


def test_the_true_map_follows_a_resize(tmp_path):
    write_camera_pair(tmp_path / "rig" / "test")
    pair = paired.test_set(tmp_path, "rig")[0]
    resized = pair.in_vi_frame()
    assert resized.ir.shape == (1, 32, 40)
    # A ramp, resized, has at the new place of a point the value that it had at the old one.
    point = torch.tensor([10.0, 7.0, 1.0], dtype=torch.float64)
    (x, y, w), (x_new, y_new, w_new) = pair.vi_to_ir @ point, resized.vi_to_ir @ point
    ramp = torch.arange(30.0).expand(1, 1, 20, 30)
    row = resize(ramp, (32, 40))[0, 0, 16]
    left = int(x_new / w_new)
    share = float(x_new / w_new) - left
    assert float((1 - share) * row[left] + share * row[left + 1]) == pytest.approx(float(x / w), abs=1e-4)
    assert float(y_new / w_new) == pytest.approx((float(y / w) + 0.5) * 32 / 20 - 0.5)


def test_a_truth_survives_its_file(tmp_path):
    (tmp_path / "truth.json").write_bytes(truth_file({"a": Truth(2 * VI_TO_IR, (40, 32), (30, 20))}))
    truth = read_truth(tmp_path / "truth.json")["a"]
    assert torch.allclose(truth.vi_to_ir, VI_TO_IR) and truth.vi_to_ir.dtype == torch.float64
    assert truth.vi_size == (40, 32) and truth.ir_size == (30, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("vi_to_ir"), "the entry of a needs vi_to_ir"),
        (lambda entry: entry.update(vi_size=40), "the entry of a needs vi_to_ir .*vi_size and ir_size"),
        (lambda entry: entry.update(vi_size=[40, 32, 3]), "the entry of a needs"),
        (lambda entry: entry.update(vi_to_ir=[[1, 0], [0, 1]]), "vi_to_ir of a is not a 3x3 matrix"),
        (lambda entry: entry.update(vi_to_ir=[[0] * 3] * 3), "vi_to_ir of a is not a 3x3 matrix that can be inverted"),
        (lambda entry: entry.update(vi_to_ir=[[float("nan")] * 3] * 3), "vi_to_ir of a is not a 3x3 matrix"),
    ],
)
def test_bad_entries_of_a_truth_are_named(tmp_path, change, message):
    path = write_camera_pair(tmp_path / "rig")
    entries = json.loads(path.read_text())
    change(entries["a"])
    path.write_text(json.dumps(entries))
    with pytest.raises(UserError, match=f"rig/truth.json: {message}"):
        paired.test_set(tmp_path, "rig")


def test_a_truth_that_does_not_fit_the_images_is_named(tmp_path):
    path = write_camera_pair(tmp_path / "rig")
    folders = tmp_path / "rig" / "ir", tmp_path / "rig" / "vi"
    path.write_bytes(truth_file({"a": Truth(VI_TO_IR, (40, 32), (31, 20))}))
    with pytest.raises(UserError, match="truth.json: ir_size of a is 31x20, but its image 30x20"):
        PairedFolders(*folders, truth=path)[0]
    path.write_bytes(truth_file({"b": Truth(VI_TO_IR, (40, 32), (30, 20))}))
    with pytest.raises(UserError, match="truth.json: no entry for a$"):
        PairedFolders(*folders, truth=path)
    for content in ("[]", "{", "\xff"):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match="truth.json: (holds no entries|not a readable JSON file)"):
            PairedFolders(*folders, truth=path)
    path.unlink()
    with pytest.raises(UserError, match="truth.json: no such file"):
        PairedFolders(*folders, truth=path)
