"""Scoring of result folders: tables with the right marks, and bad files named while the rest is scored."""

import csv
import shutil
import sys

import cv2
import numpy as np
import pytest
import scipy.io
import torch

import evaluate
from datasets.truth import Truth, truth_file
from models.registration.transform import Transform
from models.warping import flow_to_grid, warp
from utils.errors import UserError, run
from utils.figures.curves import cumulative_curves, trade_off
from utils.figures.tables import direction, latex, markdown, metric_columns, summarise
from utils.files.images import read_image, write_image
from utils.metrics.alignment import alignment_metrics
from utils.metrics.cameras import map_positions
from utils.metrics.fusion import METRICS, PAPER, PAPER_SCALE, gray_levels
from utils.metrics.registration import registration_metrics

SIZE = (48, 56)


def texture(seed, channels=1):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 8, 9, generator=generator)
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)[0]


@pytest.fixture
def data(tmp_path):
    """Two aligned pairs, and methods that copy VI, average, and answer with noise."""
    for seed, name in enumerate(("a", "b")):
        ir, vi = texture(seed), texture(seed + 10, channels=3)
        images = {"ir": ir, "vi": vi, "copy": vi, "mean": (ir + vi) / 2, "noise": torch.rand(1, *SIZE)}
        for folder, image in images.items():
            write_image(tmp_path / folder / f"{name}.png", image)
    return tmp_path


def score(data, *results, metrics="MI,SSIM,Nabf", more=()):
    sources = ["--ir", str(data / "ir"), "--vi", str(data / "vi"), "--out", str(data / "out"), "--workers", "1"]
    evaluate.main([*sources, "--metrics", metrics, "--results", *results, *more])


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_and_curves(data):
    score(data, f"copy={data / 'copy'}", f"noise={data / 'noise'}")
    rows = read(data / "out" / "per_image.csv")
    assert list(rows[0]) == ["method", "name", "MI", "SSIM", "Nabf"]
    assert [(row["method"], row["name"]) for row in rows] == [("copy", n) for n in "ab"] + [("noise", n) for n in "ab"]
    copy, noise = read(data / "out" / "summary.csv")
    assert float(copy["SSIM"]) > float(noise["SSIM"]) and float(copy["Nabf"]) < float(noise["Nabf"])
    assert float(copy["SSIM"]) == pytest.approx(np.mean([float(row["SSIM"]) for row in rows[:2]]))
    assert copy["images"] == "2"
    assert (data / "out" / "summary.md").read_text().splitlines()[2].count("**") == 6
    assert (data / "out" / "summary.tex").read_text().count(r"\textbf") == 3
    figure = cv2.imread(str(data / "out" / "curves.png"))
    assert figure.shape[1] > 2 * figure.shape[0] and figure.std() > 10
    figure = cv2.imread(str(data / "out" / "trade_off.png"))  # SSIM and Nabf against MI
    assert 1.5 * figure.shape[0] < figure.shape[1] and figure.std() > 10


@pytest.mark.parametrize("offset, told", [(0.0, False), (0.6, True)])
def test_floats_are_scored_as_they_are(data, capsys, offset, told):
    for name in "ab":
        # From 0.2 to 0.7: a stretch would change the contrast.
        image = read_image(data / "mean" / f"{name}.png").mean(0).numpy() * 0.5 + 0.2 + offset
        (data / "floats").mkdir(exist_ok=True)
        cv2.imwrite(str(data / "floats" / f"{name}.tif"), image)
        write_image(data / "eight" / f"{name}.png", torch.from_numpy(image)[None].clamp(0, 1))
    score(data, f"floats={data / 'floats'}", f"eight={data / 'eight'}", metrics="SSIM")
    floats, eight = read(data / "out" / "summary.csv")
    assert float(floats["SSIM"]) == pytest.approx(float(eight["SSIM"]), abs=2e-3)
    assert ("floats leave [0, 1] and are clipped" in capsys.readouterr().err) == told


def test_what_there_is_to_tell_of_the_pairs_is_told_once(data, capsys):
    for name in "ab":
        shutil.copy(data / "vi" / f"{name}.png", data / "ir" / f"{name}.png")
    score(data, f"copy={data / 'copy'}", f"mean={data / 'mean'}", metrics="SSIM")
    told = capsys.readouterr().err.splitlines()
    assert told == ["note: a: IR and VI are the same picture", "note: 1 more: IR and VI are the same picture"]


def test_a_suffix_is_taken_off(data):
    for name in "ab":
        (data / "theirs").mkdir(exist_ok=True)
        shutil.copy(data / "copy" / f"{name}.png", data / "theirs" / f"{name}_fused.png")
    with pytest.raises(UserError, match="theirs: no fused file carries a name of the data set.*--suffix _fused"):
        score(data, f"theirs={data / 'theirs'}", metrics="SSIM")
    score(data, f"theirs={data / 'theirs'}", f"copy={data / 'copy'}", metrics="SSIM", more=("--suffix", "_fused"))
    theirs, copy = read(data / "out" / "summary.csv")
    assert theirs["images"] == "2" and theirs["SSIM"] == copy["SSIM"]
    shutil.copy(data / "copy" / "a.png", data / "theirs" / "a.png")
    with pytest.raises(UserError, match="is named as a.png without the suffix _fused; keep one"):
        score(data, f"theirs={data / 'theirs'}", metrics="SSIM", more=("--suffix", "_fused"))


def test_results_are_never_overwritten(data):
    shutil.copytree(data / "copy", data / "out" / "fused")
    shutil.copytree(data / "copy", data / "out" / "sheets")
    before = sorted(data.rglob("*"))
    for results in ("out", "copy/../out", "out/sheets"):
        with pytest.raises(UserError, match="is an input, .* choose another --out"):
            score(data, f"ours={data / results}", metrics="SSIM", more=("--sheets", "1"))
    assert sorted(data.rglob("*")) == before
    score(data, f"ours={data / 'out' / 'fused'}", metrics="SSIM")


def test_a_trade_off_needs_two_methods_and_two_metrics_that_rank():
    one, two = (
        {"method": "a", "images": 1, "MI": 1.0, "SSIM": 0.5},
        {"method": "b", "images": 1, "MI": 2.0, "SSIM": 0.4},
    )
    assert trade_off([one]) is None
    assert trade_off([{key: row[key] for key in ("method", "images", "MI")} for row in (one, two)]) is None
    # Every method is at the position of its scores.
    pictures = {trade_off(rows) for rows in ([one, two], [{**one, "SSIM": 0.1}, two], [one, {**two, "MI": 3.0}])}
    assert len(pictures) == 3
    # A method without the metric leaves its point out, no more.
    assert trade_off([one, {**two, "SSIM": None}]).startswith(b"\x89PNG")


def test_sheets_compare_the_methods(data):
    score(data, f"copy={data / 'copy'}", f"mean={data / 'mean'}", more=("--sheets", "1"))
    assert [path.name for path in (data / "out" / "sheets").iterdir()] == ["a.png"]
    picture = read_image(data / "out" / "sheets" / "a.png")
    assert picture.shape[0] == 3 and picture.shape[2] > 4 * SIZE[1]  # infrared, visible and two methods in a row


def test_gray_and_colour_count_alike(data):
    gray = torch.stack([gray_levels(read_image(data / "copy" / "a.png")) / 255])
    assert torch.equal(gray_levels(gray.expand(3, -1, -1)), gray_levels(gray))
    assert torch.equal(gray_levels(gray), (gray[0] * 255).round().double())


def test_the_sets_of_metrics():
    assert evaluate.metric_names("paper", False) == PAPER
    assert evaluate.metric_names("all", True) == (*METRICS, *PAPER_SCALE)
    assert evaluate.metric_names("SSIM,MI", False) == ("SSIM", "MI")
    assert evaluate.metric_names("none", False) == ()
    with pytest.raises(UserError, match="unknown Ssim; use all, paper, none or names of MI, VIF"):
        evaluate.metric_names("Ssim", False)


def test_bad_files_are_named_and_the_rest_is_scored(data):
    write_image(data / "mean" / "a.png", torch.rand(1, 40, 56))
    (data / "copy" / "b.png").write_bytes(b"not an image")
    (data / "noise" / "a.png").unlink()
    cv2.imwrite(str(data / "noise" / "a.tif"), np.full(SIZE, np.nan, np.float32))
    write_image(data / "foreign" / "c.png", texture(0))
    methods = [f"{name}={data / name}" for name in ("mean", "copy", "noise", "foreign")]
    with pytest.raises(UserError) as error:
        score(data, *methods, metrics="SSIM")
    lines = str(error.value).split("\nerror: ")
    assert len(lines) == 4
    assert lines[0].startswith("foreign: no fused file carries a name of the data set, such as a;")
    assert "mean/a.png: the images differ in size (height x width): ir 48x56, vi 48x56, fused 40x56" in lines[1]
    assert "noise/a.tif: holds values that are not finite numbers" in lines[2]
    assert "copy/b.png: not a readable image" in lines[3]
    rows = read(data / "out" / "per_image.csv")
    assert [(row["method"], row["name"]) for row in rows] == [("mean", "b"), ("copy", "a"), ("noise", "b")]


def test_missing_results_and_a_damaged_source_are_named(data):
    (data / "copy" / "a.png").unlink()
    (data / "ir" / "b.png").write_bytes(b"")
    with pytest.raises(UserError) as error:
        score(data, f"copy={data / 'copy'}", f"mean={data / 'mean'}", metrics="SSIM")
    missing, damaged = str(error.value).split("\nerror: ")
    assert missing == "copy: no fused file for a" and "ir/b.png: not a readable image" in damaged
    assert [row["method"] for row in read(data / "out" / "per_image.csv")] == ["mean"]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (["x=nowhere"], "nowhere: no such"),
        (["copy"], "--results copy: write NAME=DIR"),
        (["x={}/copy", "x={}/mean"], "two methods carry the same name"),
    ],
)
def test_a_wrong_command_writes_nothing(data, results, message):
    with pytest.raises(UserError, match=message):
        score(data, *(text.format(data) for text in results))
    assert not (data / "out").exists()


def test_processes_and_the_exit_code(data, monkeypatch, capsys):
    (data / "copy" / "b.png").write_bytes(b"")
    options = ["--ir", data / "ir", "--vi", data / "vi", "--metrics", "SSIM", "--out", data / "out", "--workers", "2"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, options), "--results", f"copy={data / 'copy'}"])
    with pytest.raises(SystemExit) as ended:
        run(evaluate.main)
    assert ended.value.code == 2
    assert f"error: {data / 'copy' / 'b.png'}: not a readable image" in capsys.readouterr().err
    assert [row["name"] for row in read(data / "out" / "per_image.csv")] == ["a"]


@pytest.fixture
def deformed(data):
    """The same pairs as a test set with a true shift of 3 px, and a method's flows and registered images."""
    flow = torch.zeros(1, 2, *SIZE)
    flow[:, 0] = 3
    for name in "ab":
        ir = read_image(data / "ir" / f"{name}.png")
        write_image(data / "root" / "S" / "test" / "ir" / f"{name}.png", ir)
        write_image(data / "root" / "S" / "test" / "ir_warp" / f"{name}.png", warp(ir[None], flow)[0])
        write_image(data / "root" / "S" / "test" / "vi" / f"{name}.png", ir)
        (data / "root" / "S" / "test" / "flow").mkdir(exist_ok=True)
        scipy.io.savemat(data / "root" / "S" / "test" / "flow" / f"{name}.mat", {"flow": flow_to_grid(flow).numpy()})
        write_image(data / "ours" / "registered" / f"{name}.png", ir)
        (data / "ours" / "flow").mkdir(exist_ok=True)
        np.savez(data / "ours" / "flow" / f"{name}.npz", flow_ir2vi=-flow[0].numpy() * 2 / 3)
    return data


def score_set(data):
    options = ["--dataset_name", "S", "--data_root", str(data / "root"), "--out", str(data / "out"), "--workers", "1"]
    evaluate.main([*options, "--results", f"ours={data / 'ours'}"])


def test_flows_are_scored_against_the_true_one(deformed):
    score_set(deformed)
    (summary,) = read(deformed / "out" / "summary.csv")
    assert list(summary)[:4] == ["method", "images", "EPE", "RE"] and "align_MI_after" not in summary
    assert float(summary["EPE"]) == pytest.approx(1, abs=1e-3)


def test_bad_flows_are_named(deformed):
    flow = np.full((2, *SIZE), np.nan, np.float32)
    np.savez(deformed / "ours" / "flow" / "a.npz", flow_ir2vi=flow)
    (deformed / "ours" / "flow" / "b.npz").write_bytes(b"PK not a zip")
    with pytest.raises(UserError) as error:
        score_set(deformed)
    first, second = str(error.value).split("\nerror: ")
    assert "flow/a.npz: a flow holds values that are not finite" in first
    assert "flow/b.npz: not a readable .npz file with the key 'flow_ir2vi'" in second
    assert not (deformed / "out" / "summary.csv").exists()


def test_registered_images_are_scored_without_a_true_flow(deformed):
    test = deformed / "root" / "S" / "test"
    for path in (test / "flow").iterdir():
        path.unlink()
    (test / "flow").rmdir()
    score_set(deformed)
    (summary,) = read(deformed / "out" / "summary.csv")
    for name in ("align_MI", "align_NCC"):
        assert float(summary[f"{name}_after"]) > float(summary[f"{name}_before"])
    assert float(summary["align_NCC_after"]) == pytest.approx(1)


def test_flows_alone_without_a_true_flow_are_refused(deformed):
    for path in (deformed / "ours" / "registered").iterdir():
        path.unlink()
    (deformed / "ours" / "registered").rmdir()
    with pytest.raises(UserError, match="holds flows only"):
        evaluate.open_results(f"ours={deformed / 'ours'}", has_true_flow=False)


# Unlike cameras: IR has another size, and of VI's pixels x the partner is at 2 x + 10 (2 y).
DOUBLED = torch.tensor([[2, 0, 10], [0, 2, 0], [0, 0, 1]], dtype=torch.float64)
IR_SIZE = (100, 130)


def shifted(dx):
    """A map that is off by ``dx`` px of VI."""
    return DOUBLED @ torch.tensor([[1, 0, dx], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)


@pytest.fixture
def cameras(data):
    """The same VI images with an IR camera of another size, and the transforms and maps of two methods."""
    folder = data / "root" / "rig" / "test"
    sizes = (SIZE[1], SIZE[0]), (IR_SIZE[1], IR_SIZE[0])
    for name, error in (("a", 0.25), ("b", 0.5)):
        write_image(folder / "vi" / f"{name}.png", texture(0, channels=3))
        write_image(folder / "ir" / f"{name}.png", torch.rand(1, *IR_SIZE))
        Transform(shifted(error), *sizes, accepted=name == "a").save(data / "ours" / "transform" / f"{name}.json")
        (data / "theirs" / "flow").mkdir(exist_ok=True, parents=True)
        positions = map_positions(shifted(1.0), SIZE).float().numpy()
        np.savez(data / "theirs" / "flow" / f"{name}.npz", map_vi2ir=positions)
    (folder / "truth.json").write_bytes(truth_file({name: Truth(DOUBLED, *sizes) for name in "ab"}))
    return data


def score_cameras(data, *methods):
    options = ["--dataset_name", "rig", "--data_root", str(data / "root"), "--out", str(data / "out"), "--workers", "1"]
    evaluate.main([*options, "--results", *(f"{name}={data / name}" for name in methods)])


def test_unlike_cameras_are_scored_by_their_transforms_and_maps(cameras):
    write_image(cameras / "ours" / "fused" / "a.png", texture(0))  # there is no aligned IR to score it against
    score_cameras(cameras, "ours", "theirs")
    given, ours, theirs = read(cameras / "out" / "summary.csv")
    assert [row["method"] for row in (given, ours, theirs)] == ["as given", "ours", "theirs"]
    scale = 640 / SIZE[1]
    assert float(ours["error_640"]) == pytest.approx(0.375 * scale) and float(ours["within_3px"]) == 0.5
    assert float(ours["AUC_10px"]) == pytest.approx(((1 - 0.025 * scale) + (1 - 0.05 * scale)) / 2)
    assert float(ours["accepted"]) == 0.5 and float(ours["accepted_worst_640"]) == pytest.approx(0.25 * scale)
    assert float(ours["accepted_beyond_10px"]) == 0
    assert float(theirs["median_640"]) == pytest.approx(scale, rel=1e-4) and theirs["accepted"] == ""
    assert float(given["error_640"]) > scale and "MI" not in given and not (cameras / "out" / "trade_off.png").exists()
    rows = read(cameras / "out" / "per_image.csv")
    assert [(row["method"], row["name"]) for row in rows] == [
        (method, name) for method in ("as given", "ours", "theirs") for name in "ab"
    ]
    assert [row["accepted"] for row in rows] == ["", "", "1.0", "0.0", "", ""]
    assert "| within_3px ↑ |" in (cameras / "out" / "summary.md").read_text()


def test_bad_transforms_and_maps_are_named(cameras):
    folder = cameras / "ours" / "transform"
    Transform(DOUBLED, SIZE, IR_SIZE).save(folder / "a.json")
    (folder / "b.json").write_text("{}")
    flows = cameras / "theirs" / "flow"
    np.savez(flows / "a.npz", flow_ir2vi=np.zeros((2, *SIZE)))
    np.savez(flows / "b.npz", map_vi2ir=np.zeros((2, *IR_SIZE)))
    with pytest.raises(UserError) as error:
        score_cameras(cameras, "ours", "theirs")
    lines = str(error.value).split("\nerror: ")
    assert len(lines) == 4
    assert "transform/a.json: vi_size and ir_size are not those of the data set's images" in lines[0]
    assert "flow/a.npz: not a readable .npz file with the key 'map_vi2ir'" in lines[1]
    assert "transform/b.json: not a transform" in lines[2]
    assert "flow/b.npz: map_vi2ir has shape (2, 100, 130), not (2, 48, 56)" in lines[3]


def test_images_alone_of_unlike_cameras_are_refused(cameras):
    with pytest.raises(UserError, match="copy: no transform/ or flow/ in it; images of unlike cameras"):
        score_cameras(cameras, "copy")
    write_image(cameras / "images" / "fused" / "a.png", texture(0))
    with pytest.raises(UserError, match="images: no transform/ or flow/ in it"):
        score_cameras(cameras, "images")


def test_transforms_of_other_pairs_are_left_alone(cameras):
    shutil.copytree(cameras / "copy", cameras / "ours" / "fused")
    score(cameras, f"ours={cameras / 'ours'}", metrics="SSIM")
    assert list(read(cameras / "out" / "summary.csv")[0]) == ["method", "images", "SSIM"]
    shutil.rmtree(cameras / "ours" / "fused")
    with pytest.raises(UserError, match="holds transforms only, and the data set has no true map"):
        score(cameras, f"ours={cameras / 'ours'}")


def test_alignment_measures():
    vi = torch.zeros(48, 48)
    vi[:, 24:] = 200
    # Two equally frequent levels: one bit; the shifted edge meets no gradient of the other.
    assert alignment_metrics(vi, vi) == pytest.approx({"align_MI": 1, "align_NCC": 1})
    assert alignment_metrics(255 - vi, vi) == pytest.approx({"align_MI": 1, "align_NCC": 1})
    shifted = alignment_metrics(vi.roll(8, 1), vi)
    assert shifted["align_MI"] < 0.6 and shifted["align_NCC"] < 0.2
    assert alignment_metrics(torch.full((48, 48), 7.0), vi) == pytest.approx({"align_MI": 0, "align_NCC": 0})
    with pytest.raises(ValueError, match="infrared 48x48, vi 48x40"):
        alignment_metrics(vi, vi[:, :40])


def test_every_metric_has_a_direction():
    flow = torch.zeros(1, 2, 8, 8)
    known = {*METRICS, *PAPER_SCALE, *registration_metrics(flow, flow), "align_MI_after", "align_NCC_after"}
    assert all(direction(metric) for metric in known)
    assert direction("MI") == direction("PSNR") == 1 and direction("Nabf") == direction("EPE") == -1
    assert direction("align_MI_before") == 0


SUMMARY = [
    {"method": "a_1", "images": 3, "SSIM": 0.5, "EPE": 12.0},
    {"method": "b|2", "images": 3, "SSIM": 0.7, "EPE": 3.0},
    {"method": "c", "images": 2, "SSIM": 0.70000001},
    {"method": "d", "images": 3, "SSIM": 0.6, "EPE": 4.0},
]


def test_best_and_second_in_markdown():
    lines = markdown(SUMMARY).splitlines()
    assert lines[0] == "| method | images | SSIM ↑ | EPE ↓ |"
    assert lines[2:] == [
        "| a_1 | 3 | 0.5000 | 12.00 |",
        r"| b\|2 | 3 | **0.7000** | **3.00** |",
        "| c | 2 | **0.7000** | – |",
        "| d | 3 | <u>0.6000</u> | <u>4.00</u> |",
    ]


def test_best_and_second_in_latex():
    lines = latex(SUMMARY).splitlines()
    assert lines[:3] == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"Method & Images & SSIM $\uparrow$ & EPE $\downarrow$ \\",
    ]
    assert lines[4] == r"a\_1 & 3 & 0.5000 & 12.00 \\"
    assert lines[6] == r"c & 2 & \textbf{0.7000} & -- \\"
    assert lines[7] == r"d & 3 & \underline{0.6000} & \underline{4.00} \\"


def test_a_method_alone_and_infinite_values():
    table = markdown(summarise([{"method": "a", "name": "x", "PSNR": float("inf"), "Nabf": 0.0}]))
    assert table.splitlines()[2] == "| a | 1 | inf | 0.000 |"
    assert cumulative_curves([{"method": "a", "name": "x", "PSNR": float("inf")}]).startswith(b"\x89PNG")


def test_means_are_over_the_images_that_have_the_metric():
    rows = [{"method": "a", "name": "x", "MI": 1.0, "EPE": 2.0}, {"method": "a", "name": "y", "MI": 3.0}]
    assert summarise(rows) == [{"method": "a", "images": 2, "MI": 2.0, "EPE": 2.0}]
    assert metric_columns(rows) == ["MI", "EPE"]
