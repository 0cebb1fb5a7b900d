"""Segmentation for users: test.py --mode Seg, the table of evaluate.py, class maps as files and pictures."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import evaluate
import test as test_script
from datasets.paired import read_label
from models import BiSeNet, load_segmenter
from models.weights import save_checkpoint
from utils.classes import CLASS_COLOURS, CLASSES, class_names
from utils.errors import UserError
from utils.evaluation.segmentation import iou_scores, predict, segment, write_class_map
from utils.figures.overlays import class_overlay
from utils.figures.pair_sheet import class_sheet
from utils.figures.sheets import legend
from utils.figures.tables import higher, latex, markdown
from utils.files.images import read_image, write_image

SIZE = (36, 45)
CAR, PERSON, BIKE = 1, 2, 3


class ByBrightness(nn.Module):
    """A segmenter that maps the gray value c / 8 to class c."""

    def __init__(self):
        super().__init__()
        self.architecture = dict(num_classes=9)
        self.levels = nn.Parameter(torch.arange(9).view(1, 9, 1, 1) / 8)

    def forward(self, image):
        logits = -(image.mean(dim=1, keepdim=True) - self.levels).abs()
        return logits, logits


def answers(network, index):
    """Return ``network`` with weights that predict class ``index`` everywhere."""
    with torch.no_grad():
        network.conv_out.conv.bn.weight.zero_()
        network.conv_out.conv.bn.bias.fill_(1)
        network.conv_out.conv_out.weight.zero_()
        network.conv_out.conv_out.weight[index] = 1
    return network


def paint(classes):
    return (classes[None] / 8).float()


def label_of(seed):
    """A label map: background, cars at the top, persons to the left of them, and an unlabelled row at the bottom."""
    label = torch.zeros(SIZE, dtype=torch.int64)
    label[: 6 + 4 * seed] = CAR
    label[: 6 + 4 * seed, :9] = PERSON
    label[-1] = 255
    return label


@pytest.fixture
def data(tmp_path):
    """Two labelled pairs: VI shows the label's classes, IR background only; "good" shows all but persons."""
    for seed, name in enumerate("ab"):
        label = label_of(seed)
        shown = label.where(label != 255, 0)
        folder = tmp_path / "root" / "S" / "test"
        write_image(folder / "vi" / f"{name}.png", paint(shown).expand(3, -1, -1))
        write_image(folder / "ir" / f"{name}.png", paint(torch.zeros(SIZE)))
        write_class_map(folder / "label" / f"{name}.png", label)
        write_image(tmp_path / "good" / "fused" / f"{name}.png", paint(shown.where(shown != PERSON, CAR)))
    return tmp_path


@pytest.fixture
def by_brightness(monkeypatch):
    for script in (evaluate, test_script):
        monkeypatch.setattr(script, "load_segmenter", lambda path: ByBrightness())


@pytest.fixture(scope="module")
def persons_everywhere(tmp_path_factory):
    path = tmp_path_factory.mktemp("segmenter") / "persons.safetensors"
    save_checkpoint(path, answers(BiSeNet(), PERSON))
    return path


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def source(data, kind="set"):
    folder = data / "root" / "S" / "test"
    if kind == "set":
        return "--dataset_name", "S", "--data_root", data / "root"
    return tuple(word for part in kind.split() for word in (f"--{part}", folder / part))


def run_test(data, *arguments):
    test_script.main([str(a) for a in ("--mode", "Seg", "--device", "cpu", "--out", data / "out", *arguments)])


def run_evaluate(data, *results, more=(), pairs="set"):
    more = ("--metrics", "none", "--out", data / "scores", "--workers", 1, "--device", "cpu", *more)
    evaluate.main([str(a) for a in (*source(data, pairs), "--results", *results, *more)])
    return {row.pop("method"): row for row in read(data / "scores" / "segmentation.csv")}


def numbers(row):
    return {key: float(value) for key, value in row.items() if value}


def test_a_class_map_is_a_picture_and_a_label(tmp_path):
    classes = torch.arange(36 * 45).reshape(36, 45) % 9
    classes[0] = 255
    write_class_map(tmp_path / "seg" / "a.png", classes)
    assert torch.equal(read_label(tmp_path / "seg" / "a.png"), classes)
    with Image.open(tmp_path / "seg" / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), CLASS_COLOURS[classes])
    assert [path.name for path in (tmp_path / "seg").iterdir()] == ["a.png"]


def test_colours_are_fixed_and_differ():
    assert CLASS_COLOURS.shape == (256, 3) and len(np.unique(CLASS_COLOURS[:40], axis=0)) == 40
    assert CLASS_COLOURS[0].tolist() == [0, 0, 0]


def test_predict_takes_any_size_and_gray_images():
    network = answers(BiSeNet(num_classes=5), 4).eval()
    classes = predict(network, torch.rand(2, 3, 33, 47))
    assert classes.dtype == torch.int64 and torch.equal(classes, torch.full((2, 33, 47), 4))
    torch.manual_seed(0)
    network = BiSeNet().eval()
    gray = torch.rand(1, 1, 40, 32)
    assert torch.equal(predict(network, gray), network(gray.repeat(1, 3, 1, 1))[0].argmax(dim=1))
    with pytest.raises(ValueError, match=r"\(31, 40\); both sides must have at least 32"):
        predict(network, torch.rand(1, 3, 31, 40))


def test_an_image_and_its_file_get_the_same_classes(tmp_path):
    image = torch.linspace(-0.1, 1.1, 64 * 64).reshape(1, 64, 64)
    write_image(tmp_path / "a.png", image)
    assert torch.equal(segment(ByBrightness(), image), segment(ByBrightness(), read_image(tmp_path / "a.png")))


def test_a_segmenter_rebuilds_itself(tmp_path, untrained):
    save_checkpoint(tmp_path / "three.safetensors", BiSeNet(num_classes=3))
    ours = load_segmenter(tmp_path / "three.safetensors")
    assert ours.conv_out.conv_out.out_channels == 3 and not ours.training
    assert all(parameter.requires_grad for parameter in ours.parameters())
    torch.save(BiSeNet().state_dict(), tmp_path / "released.pth")
    assert load_segmenter(tmp_path / "released.pth").architecture == {"num_classes": 9}
    with pytest.raises(UserError, match="holds the weights of SuperFusion, not of BiSeNet"):
        load_segmenter(untrained)
    with pytest.raises(UserError, match="nowhere.pth: no such checkpoint file"):
        load_segmenter("nowhere.pth")


def test_figures_by_hand():
    matrix = torch.zeros(9, 9, dtype=torch.int64)
    matrix[0, 0], matrix[0, 1], matrix[1, 1] = 4, 2, 1
    iou = iou_scores([matrix, matrix])
    assert list(iou) == [*CLASSES, "mIoU"]
    assert iou["background"] == pytest.approx(4 / 6) and iou["car"] == pytest.approx(1 / 3)
    assert iou["person"] is None and iou["mIoU"] == pytest.approx(0.5)
    assert list(iou_scores([torch.ones(2, 2)])) == ["class 0", "class 1", "mIoU"] == [*class_names(2), "mIoU"]


def test_mode_seg_writes_class_maps_and_scores_them(data, persons_everywhere, untrained, capsys):
    run_test(data, *source(data), "--segmenter", persons_everywhere, "--checkpoint", untrained)
    out = data / "out"
    for folder in ("fused", "seg", "sheets"):
        assert [path.name for path in sorted((out / folder).iterdir())] == ["a.png", "b.png"]
    assert torch.equal(read_label(out / "seg" / "a.png"), torch.full(SIZE, PERSON))
    # Of 2 x 35 x 45 pixels with a label, 6 x 9 and 10 x 9 are persons; the three other classes are never found.
    person = (54 + 90) / 3150
    expected = {"background": 0, "car": 0, "person": person, "mIoU": person / 3}
    summary = json.loads((out / "summary.json").read_text())["segmentation"]
    assert {key: value for key, value in summary.items() if value is not None} == pytest.approx(expected)
    rows = {row["class"]: row["IoU"] for row in read(out / "segmentation.csv")}
    assert list(rows) == [*CLASSES, "mIoU"] and numbers(rows) == pytest.approx(expected)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mIoU", f"{person / 3:.4f}"] in printed and ["bike", "neither", "labelled", "nor", "found"] in printed


def test_what_is_segmented(data, by_brightness, untrained):
    given = (*source(data), "--segmenter", "x")
    label = label_of(0).where(label_of(0) != 255, 0)
    run_test(data, *given, "--seg_input", "vi", "--checkpoint", "not needed")
    assert torch.equal(read_label(data / "out" / "seg" / "a.png"), label)
    assert not (data / "out" / "fused").exists()
    assert json.loads((data / "out" / "summary.json").read_text())["segmentation"]["mIoU"] == 1
    run_test(data, *given, "--seg_input", "ir", "--checkpoint", "not needed")
    assert not read_label(data / "out" / "seg" / "a.png").any()
    run_test(data, *given, "--checkpoint", untrained)
    fused = read_image(data / "out" / "fused" / "a.png")
    assert torch.equal(read_label(data / "out" / "seg" / "a.png"), segment(ByBrightness(), fused))


def test_the_aligned_infrared_image_of_a_test_set_is_segmented(data, by_brightness):
    for name in "ab":
        write_image(data / "root" / "S" / "test" / "ir_warp" / f"{name}.png", paint(torch.full(SIZE, BIKE)))
    run_test(data, *source(data), "--segmenter", "x", "--seg_input", "ir")
    assert not read_label(data / "out" / "seg" / "a.png").any()
    rows = run_evaluate(data, f"good={data / 'good'}", more=("--segmenter", "x"))
    assert numbers(rows["infrared"])["background"] == pytest.approx(INFRARED["background"])


def test_colour_infrared_is_segmented_as_gray(tmp_path):
    red = torch.zeros(3, *SIZE)
    red[0] = 1
    done = test_script.Processed(test_script.Pair("x", red, red), red)
    for kind, level in (("ir", 2), ("vi", 3)):  # 0.299 of 8 levels, and the mean of the channels
        classes = segment(ByBrightness(), test_script.segmented(done, kind))
        assert torch.equal(classes, torch.full(SIZE, level))


def test_two_files_with_and_without_a_label(data, by_brightness):
    folder = data / "root" / "S" / "test"
    files = [(f"--{part}", folder / part / "b.png") for part in ("ir", "vi", "label")]
    given = ("--segmenter", "x", "--seg_input", "vi")
    run_test(data, *files[0], *files[1], *given)
    assert not (data / "out" / "segmentation.csv").exists()
    assert "segmentation" not in json.loads((data / "out" / "summary.json").read_text())
    run_test(data, *files[0], *files[1], *files[2], *given)
    assert numbers({r["class"]: r["IoU"] for r in read(data / "out" / "segmentation.csv")})["mIoU"] == 1


def test_fused_images_of_mode_seg_can_be_scored_too(data, by_brightness, untrained):
    run_test(data, *source(data), "--segmenter", "x", "--checkpoint", untrained, "--metrics", "MI", "--limit", 1)
    assert list(read(data / "out" / "scores" / "summary.csv")[0]) == ["method", "images", "MI"]


def refused(capsys, run, *arguments):
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_refusals_of_test(data, persons_everywhere, untrained, capsys):
    seg = ("--segmenter", persons_everywhere)
    with pytest.raises(UserError, match="--mode Seg: give --segmenter FILE, a BiSeNet") as error:
        run_test(data, *source(data))
    assert "\n" not in str(error.value)
    for option in (seg, ("--seg_input", "vi"), ("--label", data)):
        line = refused(capsys, run_test, data, *source(data, "ir vi"), *option, "--mode", "Fusion")
        assert f"{option[0]} goes with --mode Seg" in line
    assert "--label goes with --ir and --vi" in refused(capsys, run_test, data, *source(data), *seg, "--label", data)
    line = refused(capsys, run_test, data, *source(data), *seg, "--seg_input", "vi", "--metrics", "MI")
    assert "--metrics scores fused images" in line
    with pytest.raises(UserError, match="holds the weights of SuperFusion"):
        run_test(data, *source(data), "--segmenter", untrained)
    with pytest.raises(UserError, match="nowhere: no such"):
        run_test(data, *source(data, "ir vi"), *seg, "--label", data / "nowhere")
    assert not (data / "out").exists()


def test_bad_labels_and_small_images_are_named(data, by_brightness):
    folder = data / "root" / "S" / "test"
    write_class_map(folder / "label" / "a.png", torch.full(SIZE, 9))
    with pytest.raises(UserError, match="label/a.png: holds class 9, expected 0..8"):
        run_test(data, *source(data), "--segmenter", "x", "--seg_input", "vi")
    assert [path.name for path in (data / "out" / "seg").iterdir()] == ["b.png"]
    for part in ("ir", "vi"):
        write_image(data / "small" / f"{part}.png", torch.rand(1, 20, 40))
    files = ("--ir", data / "small" / "ir.png", "--vi", data / "small" / "vi.png")
    with pytest.raises(UserError, match="vi: .*at least 32"):
        run_test(data, *files, "--segmenter", "x", "--seg_input", "vi")


def test_bad_labels_are_no_matter_where_none_are_scored(data, by_brightness, untrained):
    for path in (data / "root" / "S" / "test" / "label").iterdir():
        path.write_bytes(b"damaged")
    write_class_map(data / "root" / "S" / "test" / "label" / "c.png", label_of(0))  # of no pair
    for mode in ("Reg", "Fusion"):
        run_test(data, *source(data), "--checkpoint", untrained, "--mode", mode, "--registrar", "none", "--limit", 1)
    with pytest.raises(UserError, match="no ir image for c"):
        run_test(data, *source(data), "--segmenter", "x")
    arguments = (*source(data), "--metrics", "MI", "--out", data / "scores", "--workers", 1, "--results")
    evaluate.main([str(a) for a in (*arguments, f"good={data / 'good'}")])
    assert read(data / "scores" / "summary.csv")[0]["images"] == "2"
    with pytest.raises(UserError, match="no ir image for c"):
        run_evaluate(data, f"good={data / 'good'}", more=("--segmenter", "x"))
    write_class_map(data / "good" / "seg" / "a.png", label_of(0))
    with pytest.raises(UserError, match="no ir image for c"):
        run_evaluate(data, f"good={data / 'good'}")


# What the methods of ``data`` are worth: cars and persons of both images, of which the latter are taken for cars.
CARS, PERSONS = 6 * 36 + 10 * 36, 6 * 9 + 10 * 9
REST = 2 * 35 * 45 - CARS - PERSONS
GOOD = {"background": 1, "car": CARS / (CARS + PERSONS), "person": 0}
INFRARED = {"background": REST / (2 * 35 * 45), "car": 0, "person": 0}


def test_the_segmentation_table(data, by_brightness, capsys):
    rows = run_evaluate(data, f"good={data / 'good'}", more=("--segmenter", "x"))
    assert list(rows) == ["visible", "infrared", "good"]
    assert list(rows["good"]) == ["images", *CLASSES, "mIoU"] and rows["good"]["images"] == "2"
    perfect = {"background": 1, "car": 1, "person": 1}
    for method, expected in (("visible", perfect), ("infrared", INFRARED), ("good", GOOD)):
        mean = {"mIoU": sum(expected.values()) / 3, "images": 2}
        assert numbers(rows[method]) == pytest.approx(expected | mean)
    table = (data / "scores" / "segmentation.md").read_text()
    assert table in capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    assert lines[0][2:5] == ["background ↑", "car ↑", "person ↑"] and lines[0][-1] == "mIoU ↑"
    assert [line[4] for line in lines[2:]] == ["**1.000**", "<u>0.000</u>", "<u>0.000</u>"]
    assert [line[5] for line in lines[2:]] == ["–"] * 3  # no bike anywhere
    assert (data / "scores" / "segmentation.tex").read_text().count(r"\textbf") == 5
    assert not (data / "scores" / "summary.csv").exists()


def test_class_maps_are_scored_without_a_network(data):
    for name, seed in (("a", 0), ("b", 1)):
        label = label_of(seed)
        shown = label.where(label != 255, 0)
        write_class_map(data / "maps" / "seg" / f"{name}.png", shown.where(shown != PERSON, CAR))
        write_class_map(data / "perfect" / "seg" / f"{name}.png", shown)
    rows = run_evaluate(data, f"maps={data / 'maps'}", f"perfect={data / 'perfect'}")
    assert numbers(rows["maps"]) == pytest.approx(GOOD | {"mIoU": sum(GOOD.values()) / 3, "images": 2})
    assert numbers(rows["perfect"])["mIoU"] == 1 and list(rows) == ["maps", "perfect"]


def test_exported_class_maps_are_worth_what_the_segmenter_is(data, by_brightness, untrained):
    run_test(data, *source(data), "--segmenter", "x", "--checkpoint", untrained)
    ours = f"ours={data / 'out'}"
    rows = run_evaluate(data, ours, more=("--segmenter", "x"))
    assert list(rows) == ["visible", "infrared", "ours", "ours (seg/)"]
    assert rows["ours"] == rows["ours (seg/)"]
    assert run_evaluate(data, ours)["ours"] == rows["ours"]
    iou = {row["class"]: row["IoU"] for row in read(data / "out" / "segmentation.csv")}
    assert rows["ours"] == {"images": "2"} | iou


def test_folders_with_labels_and_fusion_metrics_beside(data, by_brightness):
    more = ("--segmenter", "x", "--label", data / "root" / "S" / "test" / "label", "--metrics", "MI")
    rows = run_evaluate(data, f"good={data / 'good'}", more=more, pairs="ir vi")
    assert numbers(rows["good"])["car"] == pytest.approx(GOOD["car"])
    assert [row["method"] for row in read(data / "scores" / "summary.csv")] == ["good"]


def test_a_bad_class_map_is_named_and_the_rest_is_scored(data):
    write_class_map(data / "maps" / "seg" / "a.png", torch.zeros(36, 44, dtype=torch.int64))
    write_class_map(data / "maps" / "seg" / "b.png", torch.zeros(SIZE, dtype=torch.int64))
    with pytest.raises(UserError, match=r"^maps, a: prediction \(36, 44\) and label \(36, 45\) differ in shape$"):
        run_evaluate(data, f"maps={data / 'maps'}")
    (row,) = read(data / "scores" / "segmentation.csv")
    assert row["images"] == "1"
    (data / "maps" / "seg" / "a.png").unlink()
    write_image(data / "maps" / "seg" / "b.png", torch.rand(3, *SIZE))
    with pytest.raises(UserError) as error:
        run_evaluate(data, f"maps={data / 'maps'}")
    missing, wrong = str(error.value).split("\nerror: ")
    assert missing == "maps: no seg file for a" and "b.png: a PNG of mode RGB; a class map is an 8-bit PNG" in wrong


def test_refusals_of_evaluate(data, by_brightness, capsys):
    good, more = f"good={data / 'good'}", ("--segmenter", "x")
    for arguments, options, message in (
        ((good,), {"more": more, "pairs": "ir vi"}, "--segmenter: the data set has no labels"),
        ((good,), {}, "--metrics none: nothing else is left to score"),
        ((f"visible={data / 'good'}",), {"more": more}, "visible and infrared are rows of the segmentation table"),
    ):
        with pytest.raises(UserError, match=message) as error:
            run_evaluate(data, *arguments, **options)
        assert "\n" not in str(error.value)
    write_class_map(data / "maps" / "seg" / "a.png", label_of(0))
    with pytest.raises(UserError, match="maps: holds class maps only, and the data set has no labels to score them"):
        run_evaluate(data, f"maps={data / 'maps'}", pairs="ir vi")
    line = refused(capsys, lambda: run_evaluate(data, good, more=("--label", data)))
    assert "--label goes with --ir and --vi" in line
    assert not (data / "scores").exists()


def test_class_maps_are_no_matter_to_a_set_without_labels(data):
    write_class_map(data / "good" / "seg" / "a.png", label_of(0))
    results = evaluate.open_results(f"good={data / 'good'}", has_true_flow=False, has_label=False)
    assert results.files.keys() == {"fused"}


def test_a_class_nobody_has_is_a_dash():
    rows = [{"method": "a", "images": 1, "car": 0.5, "bike": None}, {"method": "b", "images": 1, "car": 0.4}]
    assert markdown(rows, higher).splitlines()[2:] == ["| a | 1 | **0.5000** | – |", "| b | 1 | <u>0.4000</u> | – |"]
    assert r"a & 1 & \textbf{0.5000} & -- \\" in latex(rows, higher).splitlines()


def test_an_overlay_colours_what_is_not_background():
    classes = torch.zeros(SIZE, dtype=torch.int64)
    classes[10:20, 10:20] = BIKE
    image = torch.full((1, *SIZE), 0.5)
    picture = class_overlay(image, classes)
    colour = torch.from_numpy(CLASS_COLOURS[BIKE]) / 255
    assert torch.equal(picture[:, classes == 0], torch.full((3, SIZE[0] * SIZE[1] - 100), 0.5))
    assert torch.allclose(picture[:, 10, 10], colour)  # the outline
    assert torch.allclose(picture[:, 15, 15], 0.45 * 0.5 + 0.55 * colour)


def test_a_legend_breaks_its_lines_and_shows_the_colours():
    entries = dict(enumerate(CLASSES)) | {255: "no label"}
    wide, narrow = legend(entries, 1200), legend(entries, 96)
    assert wide.shape[2] == 1200 and narrow.shape[2] == 96 and narrow.shape[1] > 5 * wide.shape[1]
    for index in range(1, 9):
        colour = torch.from_numpy(CLASS_COLOURS[index])[:, None, None] / 255
        assert ((wide - colour).abs().amax(dim=0) < 1e-3).sum() > 100
    assert legend({0: "a name that is far too long for the picture"}, 60).shape[2] == 60


def test_a_sheet_shows_the_label_where_there_is_one():
    image, classes = torch.rand(3, *SIZE), torch.zeros(SIZE, dtype=torch.int64)
    without = class_sheet("fused", image, classes, None, 9)
    assert without.shape[2] == 2 * SIZE[1]
    assert class_sheet("fused", image, classes, label_of(0), 9).shape[2] == 3 * SIZE[1]
    beside = {"visible": image, "infrared": image}
    assert class_sheet("fused", image, classes, None, 9, beside).shape[2] == 2 * SIZE[1]  # two rows of two
    assert class_sheet("fused", image, classes, label_of(0), 9, beside).shape[2] == 3 * SIZE[1]
