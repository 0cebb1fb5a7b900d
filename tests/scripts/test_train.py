"""train.py, run as a user runs it: its output files, resumption without loss, and errors on bad input."""

import csv
import errno
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import nn

import train as train_script
from datasets.crops import CropSampler
from datasets.toy import toy_scene
from datasets.training_sets import Data
from models import SuperFusion, load_model, load_segmenter
from models.weights import save_checkpoint
from utils.errors import UserError, run
from utils.files.checkpoint import read_weights
from utils.files.images import write_image
from utils.training.stages import STAGES
from utils.training.stages.base import Stage
from utils.training.validation import validation_pairs

ROOT = Path(__file__).resolve().parents[2]
FUSION = ["gradient", "ssim", "intensity"]
UNVALIDATED = "note: no pairs to validate on, so no best weights; set data.hold_out or data.val\n"
RF = ["photometric", "epe_register", "epe_deform", "smoothness", "border", *FUSION, "consistency"]


class Toy(nn.Module):
    """A network of a few weights, for tests that do not depend on the trained network."""

    architecture = {}

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 3, padding=1))


def toy_stage(config, device, seed):
    """Train a Toy to turn IR into the luminance of VI, noise and all."""
    sampler = CropSampler(config.data, seed, device)
    pairs = validation_pairs(config.data, labels=False)

    def step(network, batch):
        difference = network.layers(batch["match_ir"]) - batch["y"]
        terms = {"mean": difference.abs().mean(), "square": config.loss["fusion"] * difference.square().mean()}
        return terms | {"total": sum(terms.values())}

    def validate(network):
        return {"mean": network.layers(pairs[0].ir[None]).mean().item()}, {}

    return Stage(Toy().to(device), step, sampler, sampler.deformed, pairs, validate, "mean", lower_is_better=True)


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Reset Accelerate, which keeps its state for the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three small labelled scenes, S/train."""
    root = tmp_path_factory.mktemp("data")
    for seed in range(3):
        scene = toy_scene(seed, 64, 96)
        for part, image in (("ir", scene.ir), ("vi", scene.vi), ("label", scene.label[None] / 255)):
            write_image(root / "S" / "train" / part / f"scene{seed}.png", image)
    return root


@pytest.fixture(autouse=True, scope="module")
def registered():
    """The stage TOY: one registration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STAGES, "TOY", toy_stage)
        yield


@pytest.fixture(scope="module")
def recipe(data):
    """Four steps of stage RF, saved every second one."""
    path = data / "tiny.yaml"
    path.write_text(
        f"data: {{root: {data}, sets: {{S/train: 1}}, crop: 32}}\n"
        "train: {batch: 1, fusion_batch: 1, steps: 4, save_every: 2}\n"
    )
    return path


@pytest.fixture(scope="module")
def toy(recipe):
    """The same of stage TOY."""
    path = recipe.with_name("toy.yaml")
    path.write_text("stage: TOY\n" + recipe.read_text())
    return path


def arguments(recipe, out, *assignments, resume=False):
    sets = itertools.chain.from_iterable(("--set", assignment) for assignment in assignments)
    return ["--config", str(recipe), "--out", str(out), "--device", "cpu", *sets, *(["--resume"] if resume else [])]


def train(recipe, out, *assignments, resume=False):
    """Run train.py in this process; the state it leaves."""
    train_script.main(arguments(recipe, out, *assignments, resume=resume))
    return read_state(out)


def read_state(out):
    return torch.load(out / "state.pt", weights_only=True)


def same(a, b):
    """Test whether two trees of tensors and numbers are bit-identical."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_same_run(state, other):
    for part in ("network", "average", "optimizer", "random"):
        assert same(state[part], other[part]), part
    assert state["position"]["step"] == other["position"]["step"]


@pytest.fixture(scope="module")
def straight(toy, tmp_path_factory):
    """The state after the four steps, without interruption."""
    return train(toy, tmp_path_factory.mktemp("straight"))


def at_step(monkeypatch, number, action, stage="TOY"):
    """Let ``action`` change the terms of the stage's step ``number``, counted from 0."""
    make_stage, count = STAGES[stage], itertools.count()

    def with_action(config, device, seed):
        made = make_stage(config, device, seed)
        original = made.step

        def step(network, batch):
            terms = original(network, batch)
            return action(terms) if next(count) == number else terms

        made.step = step
        return made

    monkeypatch.setitem(STAGES, stage, with_action)


def events(out):
    return EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


# What a run writes


@pytest.mark.slow
def test_the_smoke_recipe_runs_all_stages(small_scenes, tmp_path):
    recipe = ROOT / "configs" / "smoke.yaml"
    rf, f, fs = tmp_path / "rf", tmp_path / "f", tmp_path / "fs"
    metrics = ["MI", "VIF", "SSIM", "FMI_dct", "Qabf", "Nabf"]

    def check(out, stage, terms, scores, steps):
        names = {"last.safetensors", "best.safetensors", "state.pt", "validation.csv", "validation.png", "tensorboard"}
        assert {path.name for path in out.iterdir()} == names
        log = events(out)
        curves = ["learning_rate", "gradient_norm", "samples_per_second"]
        curves += [f"loss/{term}" for term in [*terms, "total"]] + [f"validation/{score}" for score in scores]
        assert sorted(log.Tags()["scalars"]) == sorted(curves)
        assert [event.step for event in log.Scalars("loss/total")] == list(range(1, steps + 1))
        total = log.Scalars("loss/total")[0].value
        assert total == pytest.approx(sum(log.Scalars(f"loss/{term}")[0].value for term in terms), rel=1e-4)
        assert log.Scalars("samples_per_second")[0].value > 0 and log.Scalars("gradient_norm")[0].value > 0
        (sheet,) = log.Tags()["images"]
        assert sheet == "toy_2" and log.Images(sheet)[0].width > 640  # the one held out, beside what was made of it
        (row,) = csv.DictReader((out / "validation.csv").open())
        assert list(row) == ["step", "minutes", *scores] and int(row["step"]) == steps
        about = read_weights(out / "best.safetensors")[1]
        assert about["recipe"]["stage"] == stage and about["step"] == steps
        assert about["validation"][0][scores[0]] == pytest.approx(float(row[scores[0]]))

    train(recipe, rf)
    check(rf, "RF", RF, ["EPE_official", "EPE_band_free", *metrics], steps=4)
    seg = tmp_path / "seg"
    train(recipe, seg, "stage=SEG", "train.steps=1")
    check(seg, "SEG", ["cross_entropy", "lovasz"], ["mIoU"], steps=1)
    assert not load_segmenter(seg / "last.safetensors").training
    weights = (f"train.init={rf}/best.safetensors", f"train.segmenter={seg}/last.safetensors")
    train(recipe, fs, "stage=FS", "train.steps=2", *weights)
    check(fs, "FS", [*FUSION, "semantic"], ["mIoU", *metrics], steps=2)
    ours = ("loss.selection=0.5", "loss.detail=0.1", "loss.edges=0.3")
    train(recipe, f, "stage=F", "train.steps=2", *ours, weights[0])
    check(f, "F", [*FUSION, "selection", "detail", "edges"], ["fusion_loss", *metrics], steps=2)

    before = load_model(rf / "best.safetensors")
    for after in (load_model(fs / "last.safetensors"), load_model(f / "last.safetensors")):
        assert same(before.matcher.state_dict(), after.matcher.state_dict())
        parameters = zip(before.fusion.decoder.parameters(), after.fusion.decoder.parameters())
        assert not any(torch.equal(*both) for both in parameters)
    shutil.rmtree(tmp_path)


def test_stage_rf_trains_both_networks_and_resumes_bit_for_bit(recipe, tmp_path):
    # The schedule of a run that is cut short is another one, unless it is constant.
    constant = ("train.warmup=0", "train.decay=0")
    straight = train(recipe, tmp_path / "straight", "train.steps=2", *constant)
    torch.manual_seed(0)
    start = SuperFusion().state_dict()
    for part in ("matcher.pyramid", "matcher.coarse", "matcher.refine", "fusion.decoder", "fusion.gsam.scan1"):
        changed = [not torch.equal(straight["network"][name], start[name]) for name in start if name.startswith(part)]
        assert any(changed), part
    train(recipe, tmp_path / "parts", "train.steps=1", *constant)
    assert_same_run(train(recipe, tmp_path / "parts", "train.steps=2", *constant, resume=True), straight)


def test_a_stage_of_your_own_is_one_registration(toy, tmp_path):
    state = train(toy, tmp_path, "data.hold_out=0.34")
    assert state["position"]["step"] == 4 and len(state["position"]["validations"]) == 1
    weights, about = read_weights(tmp_path / "best.safetensors")
    assert weights.keys() == Toy().state_dict().keys() and about["kind"] == "Toy"
    assert about["recipe"]["stage"] == "TOY" and "mean" in about["validation"][0]
    curves = events(tmp_path).Tags()["scalars"]
    assert {"loss/mean", "loss/square", "loss/total", "validation/mean"} <= set(curves)
    with pytest.raises(UserError, match="stage is 'toy'; use one of R, RF, F, FS, SEG, TOY"):
        train(toy, tmp_path / "other", "stage=toy")


def test_the_best_weights_are_kept(toy, tmp_path, monkeypatch):
    scores = iter([3.0, math.nan, 2.0, 5.0])

    def scored(config, device, seed):
        stage = toy_stage(config, device, seed)
        stage.validate = lambda network: ({"mean": next(scores)}, {})
        return stage

    monkeypatch.setitem(STAGES, "TOY", scored)
    settings = ("data.hold_out=0.34", "train.validate_every=1", "train.steps=4")
    state = train(toy, tmp_path, *settings)
    assert [row["step"] for row in state["position"]["validations"]] == [1, 2, 3, 4]
    assert read_weights(tmp_path / "best.safetensors")[1]["step"] == 3
    assert read_weights(tmp_path / "last.safetensors")[1]["step"] == 4
    # A finished run has nothing left to do: neither a step nor a fifth validation.
    assert_same_run(train(toy, tmp_path, *settings, resume=True), state)


def test_soap_is_resumed_exactly(toy, tmp_path):
    def trained(name, *more, resume=False):
        settings = ("train.optimizer=soap", "train.warmup=0", "train.decay=0")
        return train(toy, tmp_path / name, *settings, *more, resume=resume)

    straight = trained("straight", "train.steps=12")
    trained("parts", "train.steps=11")  # the step that renews its eigenbasis
    assert_same_run(trained("parts", "train.steps=12", resume=True), straight)
    assert all("GG" in state for state in straight["optimizer"]["state"].values())  # it is no Adam


def test_given_weights_are_the_start(recipe, tmp_path):
    torch.manual_seed(7)
    model = SuperFusion()
    save_checkpoint(tmp_path / "init.safetensors", model)
    settings = (f"train.init={tmp_path}/init.safetensors", "train.lr=0", "train.steps=1")
    weights = train(recipe, tmp_path / "a", *settings)["network"]
    assert all(torch.equal(weights[name], parameter) for name, parameter in model.named_parameters())


# Nothing is lost


# A run that stops in its tracks once it has saved, so that it is killed there however slow the machine.
SAVES_AND_WAITS = """
import sys, time, train
from utils.training.run import Run

save = Run.save
Run.save = lambda run: (save(run), time.sleep(600))
train.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_run_continues_bit_for_bit(recipe, tmp_path):
    """Kills at random moments: tests/reliability."""
    straight, out = train(recipe, tmp_path / "straight"), tmp_path / "run"
    command = [sys.executable, "-c", SAVES_AND_WAITS, *arguments(recipe, out, "train.save_every=1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        while not (out / "last.safetensors").exists():  # which is written after the state
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert read_state(out)["position"]["step"] == 1
    assert_same_run(train(recipe, out, resume=True), straight)
    last = load_model(out / "last.safetensors").state_dict()
    assert all(torch.equal(straight["average"][f"module.{name}"], tensor) for name, tensor in last.items())


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_step_ends_and_is_saved(toy, straight, tmp_path, capsys, monkeypatch, kind):
    def interrupt(terms):
        for _ in range(2):  # from the terminal, and passed on by a launcher
            os.kill(os.getpid(), kind)
        return terms

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        at_step(patch, 2, interrupt)
        train(toy, tmp_path)
    assert ended.value.code == 130
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    told = capsys.readouterr().err
    assert told == UNVALIDATED + f"stopped after step 3, all is saved in {tmp_path}/; --resume goes on\n"
    assert read_state(tmp_path)["position"]["step"] == 3
    assert_same_run(train(toy, tmp_path, resume=True), straight)


def test_a_second_interruption_does_not_wait(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("utils.training.distributed.time", SimpleNamespace(monotonic=itertools.count(step=5).__next__))

    def interrupt(terms):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return terms

    at_step(monkeypatch, 2, interrupt)
    with pytest.raises(SystemExit) as ended:
        run(lambda _: train(toy, tmp_path))
    assert ended.value.code == 130 and capsys.readouterr().err == UNVALIDATED + "interrupted\n"
    assert read_state(tmp_path)["position"]["step"] == 2


def test_a_run_killed_between_its_files_is_made_whole(toy, straight, tmp_path, monkeypatch):
    calls = itertools.count()

    def killed(*args, **about):
        if next(calls) == 1:  # after the second state
            raise KeyboardInterrupt
        return save_checkpoint(*args, **about)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("utils.training.run.save_checkpoint", killed)
        train(toy, tmp_path)
    assert read_state(tmp_path)["position"]["step"] == 4
    assert read_weights(tmp_path / "last.safetensors")[1]["step"] == 2
    (tmp_path / ".state.pt.1.tmp").write_bytes(b"half")
    assert_same_run(train(toy, tmp_path, resume=True), straight)
    assert read_weights(tmp_path / "last.safetensors")[1]["step"] == 4
    assert not list(tmp_path.glob(".*"))


def test_the_seed_decides(toy, straight, tmp_path):
    assert_same_run(train(toy, tmp_path / "again"), straight)
    other = train(toy, tmp_path / "other", "train.seed=1", "train.steps=1")
    assert not same(other["network"], straight["network"]) and not same(other["random"], straight["random"])


@pytest.mark.parametrize("poisoned", ["square", "the gradient's norm"])
def test_a_value_that_is_not_finite_stops_the_run(toy, tmp_path, monkeypatch, poisoned):
    def poison(terms):
        if poisoned == "square":
            return terms | {"square": terms["square"] * math.inf}
        return terms | {"total": terms["total"] + (0 * terms["total"]).sqrt()}  # the slope of the root of 0

    at_step(monkeypatch, 3, poison)
    message = rf"step 3: {poisoned} is (nan|inf) on a batch of scene\d; stopped, with .*state.pt as it was saved last"
    with pytest.raises(UserError, match=message):
        train(toy, tmp_path)
    state = read_state(tmp_path)
    assert state["position"]["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["network"].values())


# A full disk, a removed file


def test_a_full_disk_ends_in_one_line(toy, tmp_path, capfd, monkeypatch):
    original, count = Path.write_bytes, itertools.count()

    def write_bytes(path, content):
        if path.name.startswith(".state.pt") and next(count) == 1:
            original(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(SystemExit) as ended:
        run(lambda _: train(toy, tmp_path))
    line = f"error: {tmp_path / 'state.pt'}: cannot be written (No space left on device)\n"
    assert ended.value.code == 2 and capfd.readouterr().err == UNVALIDATED + line
    assert read_state(tmp_path)["position"]["step"] == 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("records", [0, 25])
def test_a_disk_too_full_for_the_curves_ends_in_one_line(toy, tmp_path, capfd, monkeypatch, records):
    original, count = RecordWriter.write, itertools.count()

    def write(writer, record):
        if next(count) >= records:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(writer, record)

    monkeypatch.setattr(RecordWriter, "write", write)
    with pytest.raises(SystemExit) as ended:
        run(lambda _: train(toy, tmp_path))
    line = f"error: {tmp_path / 'tensorboard'}: cannot be written (No space left on device)\n"
    assert ended.value.code == 2 and capfd.readouterr().err == UNVALIDATED + line


def test_images_are_read_once(toy, data, straight, tmp_path, monkeypatch):
    shutil.copytree(data / "S", tmp_path / "S")

    def remove(terms):
        shutil.rmtree(tmp_path / "S")
        return terms

    with monkeypatch.context() as patch:
        at_step(patch, 0, remove)
        state = train(toy, tmp_path / "out", f"data.root={tmp_path}", "train.steps=2")
    assert state["position"]["step"] == 2 and not (tmp_path / "S").exists()
    with pytest.raises(UserError, match="S/train/ir: no such file or folder"):
        train(toy, tmp_path / "out", f"data.root={tmp_path}", "train.steps=4", resume=True)


def test_a_removed_file_is_named(toy, data, tmp_path):
    shutil.copytree(data / "S", tmp_path / "S")
    (tmp_path / "S" / "train" / "vi" / "scene1.png").unlink()
    with pytest.raises(UserError, match="S/train/ir: without a partner in .*S/train/vi: scene1.png"):
        train(toy, tmp_path / "out", f"data.root={tmp_path}")


# How a run unfolds


def test_a_time_budget_ends_with_the_schedule_complete(toy, tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(train_script, "time", SimpleNamespace(perf_counter=lambda: 0.4 * next(clock)))
    settings = ("train.steps=1000000", "train.minutes=0.1", "train.save_every=1000000", "train.warmup=0.1")
    position = train(toy, tmp_path, *settings)["position"]
    assert 14 <= position["step"] <= 16 and position["minutes"] == pytest.approx(0.1, abs=0.01)
    rates = [event.value for event in events(tmp_path).Scalars("learning_rate")]
    assert len(rates) == position["step"] and max(rates) == pytest.approx(1e-3)
    # Warm-up first; what is left of the decay after the last step is that step's share.
    assert rates[0] < rates[1] and rates[-1] < 0.3 * max(rates)
    # More time may be given afterwards.
    later = train(toy, tmp_path, *settings, "train.minutes=0.13", resume=True)["position"]
    assert position["step"] < later["step"] <= position["step"] + 5


def gradients(state):
    """The gradients of the first step as one vector: ten times Adam's first moments."""
    moments = state["optimizer"]["state"]
    return torch.cat([10 * moments[key]["exp_avg"].flatten() for key in sorted(moments)])


def test_accumulated_batches_make_one_step(toy, data, tmp_path, monkeypatch):
    settings = ("train.steps=1", "train.weight_decay=0")
    whole, names = CropSampler(Data(root=str(data), sets={"S/train": 1.0}, crop=32), 0).deformed(2)
    halves = itertools.cycle([{key: value[[i, i + 2]] for key, value in whole.items()} for i in range(2)])
    draw = {1: lambda: next(halves), 2: lambda: whole}

    def with_these_batches(config, device, seed):
        stage = toy_stage(config, device, seed)
        stage.network.layers[1] = nn.Identity()  # a batch's statistics are not those of its halves
        stage.draw = lambda size: (draw[size](), names)
        return stage

    monkeypatch.setitem(STAGES, "TOY", with_these_batches)
    at_once = gradients(train(toy, tmp_path / "a", *settings, "train.batch=2"))
    in_turn = gradients(train(toy, tmp_path / "b", *settings, "train.batch=1", "train.accumulate=2"))
    # Rounding may turn the sign of a pixel's difference in an L1 term, no more.
    assert at_once.norm() > 0.01 and (at_once - in_turn).norm() < 1e-3 * at_once.norm()
    half = gradients(train(toy, tmp_path / "c", *settings, "train.batch=1"))
    assert (at_once - half).norm() > 0.01 * at_once.norm()


def test_gradients_are_clipped(toy, tmp_path):
    state = train(toy, tmp_path, "train.steps=1", "train.clip=0.01", "train.weight_decay=0")
    assert gradients(state).norm() == pytest.approx(0.01, rel=1e-3)
    assert events(tmp_path).Scalars("gradient_norm")[0].value > 0.1  # before the clip


@pytest.mark.parametrize("setting", ["train.precision=bfloat16", "train.channels_last=false"])
def test_other_precision_and_layout_train_too(recipe, tmp_path, monkeypatch, capsys, setting):
    precisions = []
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")

    def note(terms):
        precisions.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return terms

    at_step(monkeypatch, 0, note, stage="RF")
    weights = train(recipe, tmp_path, setting, "train.steps=1")["network"]
    torch.manual_seed(0)
    start = dict(SuperFusion().named_parameters())
    assert all(tensor.dtype != torch.bfloat16 and tensor.isfinite().all() for tensor in weights.values())
    moved = [not torch.equal(weights[name], parameter) for name, parameter in start.items()]
    assert sum(moved) > 0.9 * len(moved)
    assert precisions == [torch.bfloat16 if "bfloat16" in setting else False]
    assert ("lacks bfloat16" in capsys.readouterr().err) == ("bfloat16" in setting)
    kernel = weights["matcher.coarse.project.0.weight"]
    assert kernel.is_contiguous(memory_format=torch.channels_last) == ("false" not in setting)
    load_model(tmp_path / "last.safetensors")


def test_the_convolutions_are_compiled_on_demand(recipe, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call.__self__) or call)
    plain = train(recipe, tmp_path / "a", "train.steps=1")
    assert not compiled
    fast = train(recipe, tmp_path / "b", "train.steps=1", "train.compile=true")
    convolutions = [sum(isinstance(part, nn.Conv2d) for part in module.modules()) for module in compiled]
    assert sum(convolutions) > 20 and same(plain["network"], fast["network"])


# Refusals


def test_refusals(recipe, data, segmenter, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "state.pt").write_bytes(b"not a state")
    (tmp_path / "small" / "train").mkdir(parents=True)
    for part in ("ir", "vi", "label"):
        write_image(tmp_path / "small" / "train" / part / "a.png", torch.zeros(1, 40, 20))
    for message, assignments in (
        ("unknown key train.speed", ["train.speed=1"]),
        ("data.polarity is 'warm'; use one of auto, white_hot, black_hot", ["data.polarity=warm"]),
        ("unknown key loss.end_point; known are photometric, epe_register", ["loss.end_point=1"]),
        ("stage is 'rf'; use one of R, RF, F, FS, SEG", ["stage=rf"]),
        ("train.optimizer is 'sgd'; use one of adam, soap", ["train.optimizer=sgd"]),
        ("train.precision is 'fp8'; use one of float32, bfloat16, float16", ["train.precision=fp8"]),
        ("data.input is 'heat'; use one of vi, ir, fused, mixed", ["stage=SEG", "train.batch=2", "data.input=heat"]),
        ("train.batch is 1; stage SEG normalises over a batch and needs at least 2", ["stage=SEG"]),
        ("train.batch is 1; stage R deforms IR in one half of a batch", ["stage=R"]),
        ("model: .*'foo'", ["model.foo=1"]),
        ("X/train/ir: no such file or folder", ["data.sets={X/train: 1.0}"]),
        ("Y/val/ir: no such folder, to validate on .*--set data.hold_out=0.1", ["data.val=[Y/val]"]),
        ("leaves none of its 3 pairs", ["data.hold_out=0.9"]),
        ("small/train: a is too small to validate on", [f"data.root={tmp_path}", "data.val=[small/train]"]),
        ("stage FS needs train.segmenter", ["stage=FS"]),
        ("stage FS needs train.init", ["stage=FS", f"train.segmenter={segmenter}"]),
        ("data.crop=400 is larger than every image .*; choose a smaller one", ["data.crop=400"]),
        ("none.pth: no such checkpoint file", ["stage=FS", "train.segmenter=none.pth", "train.init=none.pth"]),
        ("train.init: none.pth: no such checkpoint file", ["train.init=none.pth"]),
        ("train.segmenter: none.pth: no such checkpoint file", ["train.segmenter=none.pth"]),  # which RF does not need
        ("holds the weights of BiSeNet|neither a SuperFusion", [f"train.init={segmenter}"]),
        ("data.input=fused needs train.init", ["stage=SEG", "data.input=fused", "train.batch=2"]),
        ("data.input=mixed needs at least 3", ["stage=SEG", "data.input=mixed", "train.batch=2"]),
        ("train.precision=float16 needs a GPU", ["train.precision=float16"]),
        ("every weight of .* is 0", ["stage=SEG", "train.batch=2", "loss.cross_entropy=0", "loss.lovasz=0"]),
    ):
        if "small/train" in message:
            assignments.append(f"data.sets={{../{data.name}/S/train: 1.0}}")
        with pytest.raises(UserError, match=message) as refused:
            train(recipe, tmp_path / "new", *assignments)
            pytest.fail(f"trained with {assignments}")
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "new" / "state.pt").exists()
        AcceleratorState._reset_state(reset_partial_state=True)
    for message, out, resume in (
        ("state.pt: a run is there already", "there", False),
        ("state.pt: not a readable state", "there", True),
        ("state.pt: no such file; nothing to resume", "new", True),
        ("cannot be written", "there/state.pt", False),
    ):
        with pytest.raises(UserError, match=message):
            train(recipe, tmp_path / out, resume=resume)
    # Weights without a state are no less somebody's work, and those to start from an input.
    weights = tmp_path / "weights" / "best.safetensors"
    save_checkpoint(weights, SuperFusion())
    before = weights.read_bytes()
    with pytest.raises(UserError, match="best.safetensors: a run is there already"):
        train(recipe, weights.parent)
    with pytest.raises(UserError, match="best.safetensors: is an input, .* choose another --out"):
        train(recipe, weights.parent, f"train.init={weights.parent}/../weights/best.safetensors")
    assert weights.read_bytes() == before


def test_own_pairs_take_one_command(data, tmp_path, capsys):
    shutil.copytree(data / "S" / "train", tmp_path / "mine")
    own = ROOT / "configs" / "own.yaml"
    less = (f"data.root={tmp_path}", "train.steps=1", "train.batch=1", "train.fusion_batch=1", "data.crop=80")
    train(own, tmp_path / "run", *less)
    assert (tmp_path / "run" / "best.safetensors").is_file()  # one of three pairs is held out for it
    told = capsys.readouterr().err
    assert "note: 2 of 2 images have a side below data.crop=80 (at data.scale 64 pixels) and are magnified" in told
    assert "no pairs to validate on" not in told
    shutil.rmtree(tmp_path / "mine" / "label")
    with pytest.raises(UserError, match="mine/label: no such folder; the stages FS and SEG need a class map"):
        train(own, tmp_path / "seg", "stage=SEG", *less[:2], "train.init=null")


def test_nothing_to_validate_on_is_said_before_the_run(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_script, "Average", lambda *_: pytest.fail("said"))  # the run begins after it
    with pytest.raises(pytest.fail.Exception, match="said"):
        train(toy, tmp_path)
    assert capsys.readouterr().err == UNVALIDATED


@pytest.mark.parametrize("settings", [["stage=RF", "segmenter"], ["stage=SEG", "init", "train.batch=2"]])
def test_weights_that_a_stage_does_not_use_are_told(
    recipe, untrained, segmenter, tmp_path, capsys, monkeypatch, settings
):
    monkeypatch.setattr(train_script, "Average", lambda *_: pytest.fail("said"))
    stage, unused, *more = settings
    with pytest.raises(pytest.fail.Exception, match="said"):
        train(recipe, tmp_path, stage, f"train.init={untrained}", f"train.segmenter={segmenter}", *more)
    told = f"note: train.{unused} is not used by {stage.replace('=', ' ')}\n"
    assert capsys.readouterr().err == told + UNVALIDATED


def test_a_run_is_not_resumed_as_another(toy, tmp_path):
    train(toy, tmp_path, "train.steps=1")
    changed = r"state.pt: the run was begun with another config \(data.crop 32 -> 64, loss.border 1.0 -> 2.0\)"
    with pytest.raises(UserError, match=changed):
        train(toy, tmp_path, "data.crop=64", "loss.border=2", resume=True)
    assert train(toy, tmp_path, "train.steps=2", resume=True)["position"]["step"] == 2


def test_devices_are_named_as_in_the_other_scripts(toy, tmp_path):
    options = ["--config", str(toy), "--out", str(tmp_path / "out"), "--device"]
    for device, message in (("gpu", "--device gpu: use auto, cpu, cuda"), ("cuda:77", "there is no such device here")):
        with pytest.raises(UserError, match=message):
            train_script.main([*options, device])
    train_script.main([*options, "auto", "--set", "train.steps=1"])
    assert read_state(tmp_path / "out")["position"]["step"] == 1
