"""train.py, run as a user runs it: what it writes, that nothing is lost, how it refuses bad input."""

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

import datasets.toy
import train as train_script
from datasets.crops import CropSampler
from datasets.deformation import deform
from datasets.paired import Pair
from datasets.toy import toy_scene
from models import BiSeNet, SuperFusion, load_model, load_segmenter
from models.weights import save_checkpoint
from utils.errors import UserError, run
from utils.files.checkpoint import read_weights
from utils.files.images import write_image
from utils.training.config import Config, Data, Loss, Train
from utils.training.validation import registration_scores

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"
CPU = torch.device("cpu")
FUSION = ["gradient", "structure", "intensity"]
RF = ["photometric", "end_point_register", "end_point_deform", "smoothness", "border", *FUSION, "consistency"]


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps its state for the process; every test here is to find none."""
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
def segmenter(tmp_path_factory):
    """A BiSeNet whose answer depends on the image, though it is not trained."""
    torch.manual_seed(0)
    model = BiSeNet()
    with torch.no_grad():
        for head in (model.conv_out, model.conv_out16):
            head.conv_out.weight.mul_(300)
    path = tmp_path_factory.mktemp("weights") / "segmenter.safetensors"
    save_checkpoint(path, model)
    return path


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """SuperFusion as it is initialised."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_checkpoint(path, SuperFusion())
    return path


@pytest.fixture
def small_scenes(monkeypatch):
    """The toy scenes at half their size."""
    monkeypatch.setattr(datasets.toy, "toy_scene", lambda seed: toy_scene(seed, 240, 320))


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
    """Whether two trees of tensors and numbers are equal bit by bit."""
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
def straight(recipe, tmp_path_factory):
    """The state after the four steps, without interruption."""
    return train(recipe, tmp_path_factory.mktemp("straight"))


def at_step(monkeypatch, number, action):
    """Let ``action`` change the terms of RF's step ``number``, counted from 0."""
    original, count = train_script.rf_step, itertools.count()

    def step(model, batch, config):
        terms = original(model, batch, config)
        return action(terms) if next(count) == number else terms

    monkeypatch.setattr(train_script, "rf_step", step)


def events(out):
    return EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


# What a run writes


def test_the_smoke_recipe_runs_all_stages(small_scenes, tmp_path):
    recipe = ROOT / "configs" / "smoke.yaml"
    rf, f, fs = tmp_path / "rf", tmp_path / "f", tmp_path / "fs"
    metrics = ["MI", "VIF", "SSIM", "FMI_dct", "Qabf", "Nabf"]

    def check(out, stage, terms, figures, steps):
        names = {"last.safetensors", "best.safetensors", "state.pt", "validation.csv", "tensorboard"}
        assert {path.name for path in out.iterdir()} == names
        log = events(out)
        curves = ["learning_rate", "gradient_norm", "samples_per_second"]
        curves += [f"loss/{term}" for term in [*terms, "total"]] + [f"validation/{figure}" for figure in figures]
        assert sorted(log.Tags()["scalars"]) == sorted(curves)
        assert [event.step for event in log.Scalars("loss/total")] == list(range(1, steps + 1))
        total = log.Scalars("loss/total")[0].value
        assert total == pytest.approx(sum(log.Scalars(f"loss/{term}")[0].value for term in terms), rel=1e-4)
        assert log.Scalars("samples_per_second")[0].value > 0 and log.Scalars("gradient_norm")[0].value > 0
        (sheet,) = log.Tags()["images"]
        assert sheet == "toy_2" and log.Images(sheet)[0].width > 640  # the one held out, beside what was made of it
        (row,) = csv.DictReader((out / "validation.csv").open())
        assert list(row) == ["step", "minutes", *figures] and int(row["step"]) == steps
        about = read_weights(out / "best.safetensors")[1]
        assert about["recipe"]["stage"] == stage and about["step"] == steps
        assert about["validation"][0][figures[0]] == pytest.approx(float(row[figures[0]]))

    train(recipe, rf)
    check(rf, "RF", RF, ["EPE_official", "EPE_band_free", *metrics], steps=4)
    for picture in ("vi", "ir", "fused"):
        out = tmp_path / picture
        train(recipe, out, "stage=SEG", "train.steps=1", f"data.input={picture}", f"train.init={rf}/best.safetensors")
        check(out, "SEG", ["cross_entropy", "lovasz"], ["mIoU"], steps=1)
        assert not load_segmenter(out / "last.safetensors").training
        (out / "state.pt").unlink()  # large
    weights = (f"train.init={rf}/best.safetensors", f"train.segmenter={tmp_path}/vi/last.safetensors")
    train(recipe, fs, "stage=FS", "train.steps=2", *weights)
    check(fs, "FS", [*FUSION, "semantic"], ["mIoU", *metrics], steps=2)
    train(recipe, f, "stage=F", "train.steps=2", "loss.selection=0.5", "loss.detail=0.1", weights[0])
    check(f, "F", [*FUSION, "selection", "detail"], ["fusion_loss", *metrics], steps=2)

    before = load_model(rf / "best.safetensors")
    for after in (load_model(fs / "last.safetensors"), load_model(f / "last.safetensors")):
        assert same(before.matcher.state_dict(), after.matcher.state_dict())
        parameters = zip(before.fusion.decoder.parameters(), after.fusion.decoder.parameters())
        assert not any(torch.equal(*both) for both in parameters)
    shutil.rmtree(tmp_path)


def test_stage_rf_trains_both_networks(straight):
    torch.manual_seed(0)
    start = SuperFusion().state_dict()
    for part in ("matcher.pyramid", "matcher.coarse", "matcher.refine", "fusion.decoder", "fusion.gsam.scan1"):
        changed = [not torch.equal(straight["network"][name], start[name]) for name in start if name.startswith(part)]
        assert any(changed), part


def test_the_best_weights_are_kept(recipe, tmp_path, monkeypatch):
    scores = iter([3.0, math.nan, 2.0, 5.0])
    monkeypatch.setattr(train_script, "registration_scores", lambda *_: {"EPE_band_free": next(scores)})
    monkeypatch.setattr(train_script, "fusion_scores", lambda *_: {})
    monkeypatch.setattr(train_script, "registration_sheets", lambda *_: {})
    settings = ("data.hold_out=0.34", "train.validate_every=1", "train.steps=4")
    state = train(recipe, tmp_path, *settings)
    assert [row["step"] for row in state["position"]["validations"]] == [1, 2, 3, 4]
    assert read_weights(tmp_path / "best.safetensors")[1]["step"] == 3
    assert read_weights(tmp_path / "last.safetensors")[1]["step"] == 4
    # A finished run has nothing left to do: neither a step nor a fifth validation.
    assert_same_run(train(recipe, tmp_path, *settings, resume=True), state)


def test_soap_is_resumed_exactly(recipe, untrained, tmp_path):
    def trained(name, *more, resume=False):
        settings = ("stage=F", f"train.init={untrained}", "train.optimizer=soap", "train.warmup=0", "train.decay=0")
        return train(recipe, tmp_path / name, *settings, *more, resume=resume)

    straight = trained("straight", "train.steps=12")
    trained("parts", "train.steps=11")  # the step that renews its eigenbasis
    assert_same_run(trained("parts", "train.steps=12", resume=True), straight)
    assert all("GG" in state for state in straight["optimizer"]["state"].values())  # it is no Adam


def test_pairs_too_small_to_be_cropped_have_no_band_free_error():
    pairs = [deform(Pair(f"p{i}", torch.rand(1, 32, 32), torch.rand(3, 32, 32)), seed=0, band=True) for i in range(2)]
    figures = registration_scores(SuperFusion().eval(), pairs, CPU)
    assert figures["EPE_official"] > 0 and math.isnan(figures["EPE_band_free"])


def test_given_weights_are_the_start(recipe, tmp_path):
    torch.manual_seed(7)
    model = SuperFusion()
    save_checkpoint(tmp_path / "init.safetensors", model)
    settings = (f"train.init={tmp_path}/init.safetensors", "train.lr=0", "train.steps=1")
    weights = train(recipe, tmp_path / "a", *settings)["network"]
    assert all(torch.equal(weights[name], parameter) for name, parameter in model.named_parameters())


# The stages learn


@pytest.mark.parametrize("source", ["toy", "MSRS/train"])
@pytest.mark.parametrize(
    "stage, batch, steps, terms",
    [
        ("RF", 1, 12, ["photometric", "end_point_register", "end_point_deform", "gradient", "intensity"]),
        ("F", 1, 28, ["gradient", "structure", "selection"]),
        ("FS", 1, 24, ["gradient", "structure"]),
        ("SEG", 2, 6, ["cross_entropy", "lovasz"]),
    ],
)
def test_the_loss_falls_on_what_a_stage_overfits(
    stage, batch, steps, terms, source, segmenter, untrained, small_scenes
):
    if source != "toy" and not (REAL / source).is_dir():
        pytest.skip("no real images beside the project")
    settings = Data(root=str(REAL), sets={source: 1.0}, scale=0.25, crop=48)
    config = Config(stage, data=settings, loss=Loss(selection=0.2 if stage == "F" else 0), train=Train(fusion_batch=1))
    if stage == "FS":
        config.train.segmenter, config.train.init = str(segmenter), str(untrained)
    if source != "toy":
        settings.hold_out = 0.93  # a pair or two are enough
    sampler = CropSampler(settings, 0, labels=stage in ("FS", "SEG"))
    settings.hold_out = 0.0
    torch.manual_seed(0)
    made = train_script.STAGES[stage](config, sampler, CPU)
    images, _ = made.draw(batch)
    made.network.train()
    optimizer = torch.optim.Adam([p for p in made.network.parameters() if p.requires_grad], lr=2e-3)
    history = []
    for _ in range(steps):
        losses = made.step(made.network, images)
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    first, last = history[0], history[-1]
    assert last["total"] < (0.6 if stage == "RF" else 0.85) * first["total"]
    for term in terms:
        assert last[term] < 0.95 * first[term], (term, first, last)


@pytest.fixture(scope="module")
def rf_batch(data):
    return CropSampler(Data(root=str(data), sets={"S/train": 1.0}, crop=32), 0).deformed(1)[0]


@pytest.mark.parametrize("term", RF)
def test_stage_rf_trains_without_each_term(term, rf_batch):
    torch.manual_seed(0)
    terms = train_script.rf_step(SuperFusion(), rf_batch, Config(loss=Loss(**{term: 0.0})))
    assert list(terms) == [name for name in [*RF, "total"] if name != term]
    terms["total"].backward()


def test_a_network_that_no_term_needs_does_not_run(rf_batch, monkeypatch):
    model = SuperFusion()
    monkeypatch.setattr(model.fusion, "forward", None)
    terms = train_script.rf_step(model, rf_batch, Config(loss=Loss(fusion=0.0, consistency=0.0)))
    assert list(terms) == [*RF[:5], "total"]


def test_the_gradient_goes_through_the_frozen_segmenter(data, segmenter, untrained):
    settings = Data(root=str(data), sets={"S/train": 1.0}, crop=32)
    weights = Train(segmenter=str(segmenter), init=str(untrained))
    config = Config("FS", data=settings, loss=Loss(fusion=0.0), train=weights)
    torch.manual_seed(0)
    stage = train_script.fs_stage(config, CropSampler(settings, 0, labels=True), CPU)
    frozen = stage.step.keywords["segmenter"]
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    terms = stage.step(stage.network.train(), stage.draw(1)[0])
    assert list(terms) == ["semantic", "total"]
    terms["total"].backward()
    assert not any(module.training for module in frozen.modules()) and same(before, frozen.state_dict())
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    assert all(p.grad is None and not p.requires_grad for p in stage.network.matcher.parameters())
    assert all(p.grad.abs().max() > 0 for p in stage.network.fusion.decoder.parameters())

    config.loss = Loss(semantic=0.0)
    stage = train_script.fs_stage(config, CropSampler(settings, 0, labels=True), CPU)
    assert list(stage.step(stage.network, stage.draw(1)[0])) == [*FUSION, "total"]


# Nothing is lost


def start(recipe, out, *assignments, resume=False):
    command = [sys.executable, str(ROOT / "train.py"), *arguments(recipe, out, *assignments, resume=resume)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=out.parent)


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def test_a_killed_and_an_interrupted_run_continue_bit_for_bit(recipe, straight, tmp_path):
    out, state_file = tmp_path / "run", tmp_path / "run" / "state.pt"
    process = start(recipe, out, "train.save_every=1")
    wait_for(state_file.exists, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed, written = read_state(out)["position"]["step"], state_file.stat().st_mtime_ns
    assert 1 <= killed < 3

    process = start(recipe, out, "train.save_every=1", resume=True)
    wait_for(lambda: state_file.stat().st_mtime_ns > written, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    stopped = read_state(out)["position"]["step"]
    assert killed < stopped <= 4
    assert errors == f"stopped after step {stopped}, all is saved in {out}/; --resume goes on\n"
    assert_same_run(train(recipe, out, resume=True), straight)
    last = load_model(out / "last.safetensors").state_dict()
    assert all(torch.equal(straight["average"][f"module.{name}"], tensor) for name, tensor in last.items())


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_step_ends_and_is_saved(recipe, straight, tmp_path, capsys, monkeypatch, kind):
    def interrupt(terms):
        for _ in range(2):  # from the terminal, and passed on by a launcher
            os.kill(os.getpid(), kind)
        return terms

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        at_step(patch, 2, interrupt)
        train(recipe, tmp_path)
    assert ended.value.code == 130
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    told = capsys.readouterr().err
    assert told == f"stopped after step 3, all is saved in {tmp_path}/; --resume goes on\n"
    assert read_state(tmp_path)["position"]["step"] == 3
    assert_same_run(train(recipe, tmp_path, resume=True), straight)


def test_a_second_interruption_does_not_wait(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("utils.training.distributed.time", SimpleNamespace(monotonic=itertools.count(step=5).__next__))

    def interrupt(terms):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return terms

    at_step(monkeypatch, 2, interrupt)
    with pytest.raises(SystemExit) as ended:
        run(lambda _: train(recipe, tmp_path))
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted\n"
    assert read_state(tmp_path)["position"]["step"] == 2


def test_a_run_killed_between_its_files_is_made_whole(recipe, straight, tmp_path, monkeypatch):
    calls = itertools.count()

    def killed(*args, **about):
        if next(calls) == 1:  # after the second state
            raise KeyboardInterrupt
        return save_checkpoint(*args, **about)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_script, "save_checkpoint", killed)
        train(recipe, tmp_path)
    assert read_state(tmp_path)["position"]["step"] == 4
    assert read_weights(tmp_path / "last.safetensors")[1]["step"] == 2
    (tmp_path / ".state.pt.1.tmp").write_bytes(b"half")
    assert_same_run(train(recipe, tmp_path, resume=True), straight)
    assert read_weights(tmp_path / "last.safetensors")[1]["step"] == 4
    assert not list(tmp_path.glob(".*"))


def test_the_seed_decides(recipe, straight, tmp_path):
    assert_same_run(train(recipe, tmp_path / "again"), straight)
    other = train(recipe, tmp_path / "other", "train.seed=1", "train.steps=1")
    assert not same(other["network"], straight["network"]) and not same(other["random"], straight["random"])


@pytest.mark.parametrize("poisoned", ["border", "the gradient's norm"])
def test_a_value_that_is_not_finite_stops_the_run(recipe, tmp_path, monkeypatch, poisoned):
    def poison(terms):
        if poisoned == "border":
            return terms | {"border": terms["border"] * math.inf}
        return terms | {"total": terms["total"] + (0 * terms["total"]).sqrt()}  # the slope of the root of 0

    at_step(monkeypatch, 3, poison)
    message = rf"step 3: {poisoned} is (nan|inf) on a batch of scene\d; stopped, with .*state.pt as it was saved last"
    with pytest.raises(UserError, match=message):
        train(recipe, tmp_path)
    state = read_state(tmp_path)
    assert state["position"]["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["network"].values())


# A full disk, a removed file


def test_a_full_disk_ends_in_one_line(recipe, tmp_path, capfd, monkeypatch):
    original, count = Path.write_bytes, itertools.count()

    def write_bytes(path, content):
        if path.name.startswith(".state.pt") and next(count) == 1:
            original(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(SystemExit) as ended:
        run(lambda _: train(recipe, tmp_path))
    line = f"error: {tmp_path / 'state.pt'}: cannot be written (No space left on device)\n"
    assert ended.value.code == 2 and capfd.readouterr().err == line
    assert read_state(tmp_path)["position"]["step"] == 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("records", [0, 25])
def test_a_disk_too_full_for_the_curves_ends_in_one_line(recipe, tmp_path, capfd, monkeypatch, records):
    original, count = RecordWriter.write, itertools.count()

    def write(writer, record):
        if next(count) >= records:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(writer, record)

    monkeypatch.setattr(RecordWriter, "write", write)
    with pytest.raises(SystemExit) as ended:
        run(lambda _: train(recipe, tmp_path))
    line = f"error: {tmp_path / 'tensorboard'}: cannot be written (No space left on device)\n"
    assert ended.value.code == 2 and capfd.readouterr().err == line


def test_images_are_read_once(recipe, data, straight, tmp_path, monkeypatch):
    shutil.copytree(data / "S", tmp_path / "S")

    def remove(terms):
        shutil.rmtree(tmp_path / "S")
        return terms

    with monkeypatch.context() as patch:
        at_step(patch, 0, remove)
        state = train(recipe, tmp_path / "out", f"data.root={tmp_path}", "train.steps=2")
    assert state["position"]["step"] == 2 and not (tmp_path / "S").exists()
    with pytest.raises(UserError, match="S/train/ir: no such file or folder"):
        train(recipe, tmp_path / "out", f"data.root={tmp_path}", "train.steps=4", resume=True)


def test_a_removed_file_is_named(recipe, data, tmp_path):
    shutil.copytree(data / "S", tmp_path / "S")
    (tmp_path / "S" / "train" / "vi" / "scene1.png").unlink()
    with pytest.raises(UserError, match="S/train/vi: no vi image for scene1"):
        train(recipe, tmp_path / "out", f"data.root={tmp_path}")


# How a run unfolds


def test_a_time_budget_ends_with_the_schedule_complete(recipe, tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(train_script, "time", SimpleNamespace(perf_counter=lambda: 0.3 * next(clock)))
    settings = ("train.steps=1000000", "train.minutes=0.1", "train.save_every=1000000", "train.warmup=0.1")
    position = train(recipe, tmp_path, *settings)["position"]
    assert 5 <= position["step"] <= 7 and position["minutes"] == pytest.approx(0.1, abs=0.01)
    rates = [event.value for event in events(tmp_path).Scalars("learning_rate")]
    assert len(rates) == position["step"] and max(rates) == pytest.approx(1e-3)
    # Warm-up first; what is left of the decay after the last step is that step's share.
    assert rates[0] < rates[1] and rates[-1] < 0.3 * max(rates)
    # More time may be given afterwards.
    later = train(recipe, tmp_path, *settings, "train.minutes=0.13", resume=True)["position"]
    assert position["step"] < later["step"] <= position["step"] + 3


def gradients(state):
    """Those of the first step, which Adam's first moments are a tenth of, as one vector."""
    moments = state["optimizer"]["state"]
    return torch.cat([10 * moments[key]["exp_avg"].flatten() for key in sorted(moments)])


def test_accumulated_batches_make_one_step(recipe, data, segmenter, untrained, tmp_path, monkeypatch):
    weights = (f"train.segmenter={segmenter}", f"train.init={untrained}")
    settings = ("stage=FS", *weights, "train.steps=1", "loss.semantic=0", "train.weight_decay=0")
    whole, names = CropSampler(Data(root=str(data), sets={"S/train": 1.0}, crop=32), 0, labels=True).aligned(2)
    halves = itertools.cycle([{key: value[i : i + 1] for key, value in whole.items()} for i in range(2)])
    draw = {1: lambda: next(halves), 2: lambda: whole}
    monkeypatch.setattr(CropSampler, "aligned", lambda self, size: (draw[size](), names))
    at_once = gradients(train(recipe, tmp_path / "a", *settings, "train.batch=2"))
    in_turn = gradients(train(recipe, tmp_path / "b", *settings, "train.batch=1", "train.accumulate=2"))
    # Rounding may turn the sign of a pixel's difference in an L1 term, no more.
    assert at_once.norm() > 0.01 and (at_once - in_turn).norm() < 1e-3 * at_once.norm()
    half = gradients(train(recipe, tmp_path / "c", *settings, "train.batch=1"))
    assert (at_once - half).norm() > 0.01 * at_once.norm()


def test_gradients_are_clipped(recipe, tmp_path):
    state = train(recipe, tmp_path, "train.steps=1", "train.clip=0.01", "train.weight_decay=0")
    assert gradients(state).norm() == pytest.approx(0.01, rel=1e-3)
    assert events(tmp_path).Scalars("gradient_norm")[0].value > 0.1  # before the clip


@pytest.mark.parametrize("setting", ["train.precision=bf16", "train.channels_last=false"])
def test_other_precision_and_layout_train_too(recipe, tmp_path, monkeypatch, capsys, setting):
    precisions = []
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")

    def note(terms):
        precisions.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return terms

    at_step(monkeypatch, 0, note)
    weights = train(recipe, tmp_path, setting, "train.steps=2")["network"]
    torch.manual_seed(0)
    start = dict(SuperFusion().named_parameters())
    assert all(tensor.dtype != torch.bfloat16 and tensor.isfinite().all() for tensor in weights.values())
    moved = [not torch.equal(weights[name], parameter) for name, parameter in start.items()]
    assert sum(moved) > 0.9 * len(moved)
    assert precisions == [torch.bfloat16 if "bf16" in setting else False]
    assert ("lacks bfloat16" in capsys.readouterr().err) == ("bf16" in setting)
    kernel = weights["matcher.coarse.project.0.weight"]
    assert kernel.is_contiguous(memory_format=torch.channels_last) == ("false" not in setting)
    load_model(tmp_path / "last.safetensors")


def test_networks_are_compiled_on_demand(recipe, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call.__self__) or call)
    train(recipe, tmp_path / "a", "train.steps=1")
    assert not compiled
    train(recipe, tmp_path / "b", "train.steps=1", "train.compile=true")
    assert [type(module).__name__ for module in compiled] == ["FeaturePyramid", *3 * ["Sequential"]]


# Refusals


def test_refusals(recipe, data, segmenter, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "state.pt").write_bytes(b"not a state")
    (tmp_path / "small" / "train").mkdir(parents=True)
    for part in ("ir", "vi", "label"):
        write_image(tmp_path / "small" / "train" / part / "a.png", torch.zeros(1, 40, 20))
    for message, assignments in (
        ("unknown key train.speed", ["train.speed=1"]),
        ("model: .*'foo'", ["model.foo=1"]),
        ("X/train/ir: no such file or folder", ["data.sets={X/train: 1.0}"]),
        ("Y/val/ir: no such file or folder", ["data.val=[Y/val]"]),
        ("leaves none of its 3 pairs", ["data.hold_out=0.9"]),
        ("small/train: a is too small to validate on", [f"data.root={tmp_path}", "data.val=[small/train]"]),
        ("stage FS needs train.segmenter", ["stage=FS"]),
        ("stage FS needs train.init", ["stage=FS", f"train.segmenter={segmenter}"]),
        ("data.crop=400 is larger than every image", ["data.crop=400"]),
        ("none.pth: no such checkpoint file", ["stage=FS", "train.segmenter=none.pth", "train.init=none.pth"]),
        ("none.pth: no such checkpoint file", ["train.init=none.pth"]),
        ("holds the weights of BiSeNet|neither a SuperFusion", [f"train.init={segmenter}"]),
        ("data.input=fused needs train.init", ["stage=SEG", "data.input=fused", "train.batch=2"]),
        ("train.precision=fp16 needs a GPU", ["train.precision=fp16"]),
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


def test_a_run_is_not_resumed_as_another(recipe, tmp_path):
    train(recipe, tmp_path, "train.steps=1")
    changed = r"state.pt: the run was begun with another config \(data.crop 32 -> 64, loss.border 1.0 -> 2.0\)"
    with pytest.raises(UserError, match=changed):
        train(recipe, tmp_path, "data.crop=64", "loss.border=2", resume=True)
    assert train(recipe, tmp_path, "train.steps=2", resume=True)["position"]["step"] == 2


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("data.sets={A: many}", "data.sets.A is 'many', not a number"),
        ("data.sets={A: .nan}", "data.sets needs at least one set, and shares that are not negative"),
        ("data.crop=31", "data.crop is 31; it must be at least 32"),
        ("data.scale=0", "data.scale is 0.0; it must be above 0 and at most 1"),
        ("data.zoom=[0, 1]", r"data.zoom is \(0.0, 1.0\); it must be two numbers above 0, the smaller first"),
        ("data.zoom=[1.2, 1]", r"data.zoom is \(1.2, 1.0\); it must be two numbers above 0, the smaller first"),
        ("data.val_pairs=0", "data.val_pairs is 0; it must be at least 1"),
        ("data.band=1.5", "data.band is 1.5; it must be a share, from 0 to 1"),
        ("train.fusion_batch=0", "train.fusion_batch is 0; it must be at least 1"),
        ("train.minutes=0", "train.minutes is 0.0; it must be above 0"),
        ("train.clip=0", "train.clip is 0.0; it must be above 0"),
        ("train.lr=-1", "train.lr is -1.0; it must be at least 0"),
        ("train.warmup=2", "train.warmup is 2.0; it must be a share, from 0 to 1"),
        ("train.ema=1", "train.ema is 1.0; it must be a share below 1"),
        ("stage=SEG", "train.batch is 1; stage SEG normalises over a batch and needs at least 2"),
    ],
)
def test_values_no_run_could_use_are_named(recipe, tmp_path, assignment, message):
    with pytest.raises(UserError, match=message):
        train(recipe, tmp_path, assignment)
