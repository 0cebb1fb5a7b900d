"""The benchmark: the compared variants compute the same, and the tables add up."""

import functools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch

import benchmark
import train
from datasets.toy import toy_scene
from models import SuperFusion
from models.forms import computed_as
from models.published import published_superfusion
from models.scan import backends_for
from utils.benchmark import gpu, inference, libraries, measure, registration, step
from utils.benchmark.measure import in_new_process, markdown, peak_memory, seconds
from utils.benchmark.plain import PLAIN
from utils.errors import UserError

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


def table(text: str) -> list[dict[str, str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(rows[0], row)) for row in rows[2:]]


@pytest.fixture
def quick(monkeypatch):
    """One call to warm up; and freed memory is given back, as before, in the tests that follow."""
    monkeypatch.setattr(measure, "_WARM_UP", 1)
    for module in (benchmark, inference, step, benchmark.scan):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: True)


def test_the_table_of_a_training_step_by_hand():
    seconds_of = dict.fromkeys(step.PARTS, 0.25) | {"host": 0.5, "free": 2.0}
    plain = [seconds_of, seconds_of | {"backward": 4.75}, seconds_of | {"backward": 0.75, "free": 1.0}]
    ours = dict.fromkeys(step.PARTS, 0.1) | {"draw": 0.5, "host": 0.4, "free": 0.5}
    rows = table(step.table({"plain": plain, "ours": [ours]}, batch=3))
    assert [row[""] for row in rows] == ["plain", "ours"]
    assert [rows[0][part] for part in step.PARTS] == ["0.250", "0.250", "0.250", "0.250", "0.750", "0.250"]
    assert [rows[0][key] for key in step.WHOLE] == ["2.000", "12%", "25%", "1.50", "1.0"]
    assert [rows[1][key] for key in step.WHOLE] == ["0.500", "50%", "80%", "6.00", "4.0"]


@pytest.mark.slow
def test_the_table_of_a_training_step_adds_up(quick, small_scenes, capsys):
    benchmark.main(["step", "--batch", "2", "--crop", "64", "--repeats", "1", "--device", "cpu"])
    rows = table(capsys.readouterr().out)
    assert [row[""] for row in rows] == [
        *("RF, plain, float32", "RF, float32", "RF, bfloat16", "R, float32", "R, bfloat16"),
    ]
    for row in rows:
        parts = {part: float(row[part]) for part in step.PARTS}
        assert parts["matcher"] > 0 and (parts["fusion"] > 0) == row[""].startswith("RF")
        assert float(row["draw share"].rstrip("%")) == pytest.approx(
            100 * parts["draw"] / sum(parts.values()), abs=0.6 + 100 * 0.001 / sum(parts.values())
        )
        assert float(row["samples/s"]) == pytest.approx(2 / float(row["whole step"]), rel=0.05)
    assert rows[0]["x"] == "1.0"


@pytest.mark.slow
def test_the_table_of_inference(quick, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(inference, "in_new_process", lambda function, *args: function(*args))
    monkeypatch.setattr(inference, "sample_pair", functools.cache(inference.sample_pair))
    plot = tmp_path / "plot.png"
    arguments = ["inference", "--sizes", "32x32", "48x32", "--plain_up_to", "32", "--repeats", "1", "--turns", "2"]
    benchmark.main([*arguments, "--device", "cpu", "--all_scans", "--batch", "2", "--plot", str(plot)])
    rows = table(capsys.readouterr().out)
    backends = backends_for("cpu", torch.float32)
    paths = [("optimised", scan, "float32") for scan in reversed(backends)] + [("optimised", backends[0], "bfloat16")]
    plain = ("plain", "reference", "float32")
    found = [(row["size"], row["path"], row["scan"], row["precision"]) for row in rows]
    assert found == [("32x32", *way) for way in [plain, *paths]] + [("48x32", *way) for way in paths]
    assert rows[0]["both x"] == "1.0" and rows[-1]["both x"] == ""
    for row in rows:
        register, fuse, both = (float(row[f"{part} s"]) for part in ("register", "fuse", "both"))
        assert both == pytest.approx(register + fuse, abs=0.002)
        assert float(row["pairs/s"]) == pytest.approx(2 / both, rel=0.1)
        assert float(row["peak MB"]) > 50
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_table_of_the_scan(quick, capsys, tmp_path):
    plot = tmp_path / "plot.png"
    benchmark.main(
        ["scan", "--widths", "16", "32", "--height", "24", "--repeats", "1", "--device", "cpu", "--plot", str(plot)]
    )
    rows = table(capsys.readouterr().out)
    for dtype in (torch.float32, torch.bfloat16):
        for size in ("16x24", "32x24"):
            its = [row for row in rows if row["type"] == str(dtype).removeprefix("torch.") and row["size"] == size]
            assert [row["scan"] for row in its] == backends_for("cpu", dtype)
            assert its[-1]["forward x"] == its[-1]["backward x"] == "1.0"
            assert all(float(row["forward ms"]) >= 0 and float(row["copy GB/s"]) > 0 for row in its)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("make", [SuperFusion, published_superfusion])
def test_plain_is_the_same_network(make):
    torch.manual_seed(0)
    model = make().eval()
    ir, vi = torch.rand(1, 3, 40, 48), torch.rand(1, 3, 40, 48)
    calls = Counter()

    def counted(name, form):
        def call(*args, **options):
            calls[name] += 1
            return form(*args, **options)

        return call

    with torch.no_grad():
        expected, fused = model.register(ir, vi).flow_ir2vi, model.fuse(ir, vi)
        with computed_as({name: counted(name, form) for name, form in PLAIN.items()}):
            flow, plain_fused = model.register(ir, vi).flow_ir2vi, model.fuse(ir, vi)
    assert torch.allclose(flow, expected, atol=1e-4) and expected.abs().max() > 1e-3
    assert torch.allclose(plain_fused, fused, atol=1e-5)
    assert calls == {"scan": 2, "cost_volume": 2 * len(model.passes)}


def test_the_table_of_libraries(quick, monkeypatch, capsys):
    small = libraries.cases(CPU, height=24, width=32)
    monkeypatch.setattr(libraries, "cases", lambda device: small)
    monkeypatch.setattr(libraries, "_TURNS", 1)
    benchmark.main(["libraries", "--repeats", "1", "--device", "cpu"])
    rows = table(capsys.readouterr().out)
    assert [row["ours"] for row in rows] == [case.what for case in small]
    # The same values, but for what the docstrings name: borders, rounded coefficients, absent classes.
    others = ("SSIM map", "YCbCr", "Lovasz")
    for row in rows:
        same = float(row["largest difference"]) < 1e-4
        assert same != row["ours"].startswith(others), row["ours"]


def test_the_table_of_registration(quick, monkeypatch, capsys):
    scene = toy_scene(0, 96, 128)
    images = scene.ir[None], scene.vi[None]
    monkeypatch.setattr(registration, "cases", lambda: [registration.Case("narrow", *images, True)])
    benchmark.main(["registration", "--repeats", "1", "--device", "cpu"])
    (row,) = table(capsys.readouterr().out)
    assert (row["search"], row["IR"], row["VI"]) == ("narrow, network", "128x96", "128x96")
    assert float(row["seconds"]) > 0 and float(row["without the displacement"]) > 0


def test_the_cases_of_registration_are_what_their_search_expects():
    narrow, network, *wide = registration.cases()
    assert [(case.search, case.network) for case in (narrow, network)] == [("narrow", False), ("narrow", True)]
    assert narrow.ir.shape[-2:] == narrow.vi.shape[-2:] == (480, 640)
    assert [case.search for case in wide] == ["wide"] * len(registration.VI_SIZES)
    assert [case.vi.shape[-2:][::-1] for case in wide] == list(registration.VI_SIZES)


def test_timing_and_memory():
    calls = []
    assert len(seconds(lambda: calls.append(0), CPU, 3)) == 3 and len(calls) > 3
    # A process of its own starts with less than this one needs for 200 MB more.
    held = torch.ones(50_000_000)
    assert in_new_process(peak_memory, CPU) < peak_memory(CPU) - 100
    assert held.sum() > 0
    assert markdown(["a", "b"], [["c", "1"]]) == "| a | b |\n| --- | ---: |\n| c | 1 |"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", "--crop", "8"], "8: must be a whole number, at least 64"),
        (["inference", "--sizes", "640"], "640: write it as 640x480"),
        (["inference", "--sizes", "640x8"], "both at least 32"),
        (["scan", "--widths", "none"], "none: must be a whole number"),
        ([], "inference|scan|step|registration|folder|libraries"),
    ],
)
def test_refusals(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_report_on_a_gpu_runs_in_small_form_on_a_cpu(quick, small_scenes, tmp_path, monkeypatch, capsys):
    """Training and scans are done, in this process; tables that other tests make are given, if they are asked for as
    their functions say.
    """

    def run(command, **_):
        assert command[0] == sys.executable
        if command[1] == "train.py":
            train.main(command[2:])
            return subprocess.CompletedProcess(command, 0)
        assert command[1:3] == ["-m", "pytest"] and (ROOT / command[-1]).is_file()
        return subprocess.CompletedProcess(command, 0, "9 skipped in 0.01s\n", "")

    def measured(task):
        return inference.Result([0.5], [0.25], 100.0)

    parts = dict.fromkeys(step.PARTS, 0.25) | {"host": 0.5, "free": 2.0}
    monkeypatch.setattr(gpu.subprocess, "run", run)
    monkeypatch.setattr(step, "measure", create_autospec(step.measure, return_value={"R, bfloat16": [parts]}))
    monkeypatch.setattr(inference, "measure", measured)
    monkeypatch.setattr(inference, "in_new_process", lambda function, *args: function(*args))
    benchmark.main(["gpu", "--out", str(tmp_path / "report"), "--smoke", "--minutes", "9", "--device", "cpu"])
    report = (tmp_path / "report" / "gpu.md").read_text()
    titles = [line for line in report.splitlines() if line.startswith("## ")]
    assert [title.split()[1] for title in titles] == ["Machine", "Tests", "9", "A", "The", "Inference,"]
    assert "9 skipped" in report and "| toy |" in report and "R, bfloat16" in report
    assert "| numba | bfloat16 | 32x480 |" in report or "| torch | bfloat16 | 32x480 |" in report
    assert "| optimised |" in report and "| 64x48 | 0.500 | 0.250 | 0.750 |" in report
    assert (tmp_path / "report" / "run" / "best.safetensors").is_file()
    with pytest.raises(UserError, match="gpu needs a CUDA device; --smoke runs a small form"):
        benchmark.main(["gpu", "--out", str(tmp_path), "--device", "cpu"])
