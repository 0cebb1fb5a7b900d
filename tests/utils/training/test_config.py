"""Config files: defaults, differences, earlier names, refusals."""

import dataclasses
from pathlib import Path

import pytest

from losses.objectives import FUSION_TERMS, Term, loss_weights
from utils.errors import UserError
from utils.training.config import Config, load_config, with_current_names


def load(tmp_path, text, *assignments):
    (tmp_path / "c.yaml").write_text(text)
    return load_config(tmp_path / "c.yaml", list(assignments))


def test_only_differences_are_written(tmp_path):
    config = load(tmp_path, "train: {batch: 3, lr: 1e-4}\ndata: {zoom: [0.5, 1]}")
    assert config.train.batch == 3 and config.train.lr == 1e-4 and config.data.zoom == (0.5, 1.0)
    assert config.loss == loss_weights() and config.train.steps == Config().train.steps
    assert load(tmp_path, "") == Config()


def test_assignments_come_last(tmp_path):
    config = load(tmp_path, "loss: {fusion: 2}", "loss.fusion=0", "train.minutes=1.5", "data.sets={A/train: 1.0}")
    assert (
        config.loss == loss_weights(fusion=0.0) and config.train.minutes == 1.5 and config.data.sets == {"A/train": 1.0}
    )
    changed = load(tmp_path, "model: {correlation: squared, cost_dilation: 2}", "model.inputs=rgb")
    assert changed.model == {"correlation": "squared", "cost_dilation": 2, "inputs": "rgb"}
    nested = load(tmp_path, "model: {matcher: {inputs: rgb}}", "model.matcher.cost_dilation=2", "model.passes=[1.0]")
    assert nested.model == {"matcher": {"inputs": "rgb", "cost_dilation": 2}, "passes": [1.0]}
    assert load(tmp_path, "data: {sets: {A: 1.0}}", "data.sets.B=2.0").data.sets == {"A": 1.0, "B": 2.0}
    assert load(tmp_path, "train: {minutes: 3}", "train.minutes=null").train.minutes is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("loss: {fussion: 1}", "unknown key loss.fussion; known are photometric, epe_register, epe_deform"),
        ("losses: {}", "unknown key losses"),
        ("train: {batch: many}", "train.batch is 'many', not a whole number"),
        ("train: {lr: fast}", "train.lr is 'fast', not a number"),
        ("train: 3", "train must hold keys"),
        ("loss: 3", "loss must hold keys"),
        ("loss: {fusion: strong}", "loss.fusion is 'strong', not a number"),
        ("data: {sets: {A: many}}", "data.sets.A is 'many', not a number"),
        ("data: {val: A/test}", "data.val is 'A/test', not a list"),
        ("- a list", "must hold keys"),
        ("a: [", "not a readable YAML"),
        ("data: {band: [1]}", r"data.band is \[1\], not a number"),
        ("data: {zoom: 1}", "data.zoom is 1, not two numbers"),
        ("data: {quarter_turns: 1}", "data.quarter_turns is 1, not true or false"),
        ("train: {init: 3}", "train.init is 3, not text"),
        ("model: 3", "model is 3, not keys and values"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, text)


def test_mistakes_on_the_command_line_are_named(tmp_path):
    with pytest.raises(UserError, match="--set loss.fussion=1: unknown key loss.fussion"):
        load(tmp_path, "", "loss.fussion=1")
    with pytest.raises(UserError, match="section.key=value"):
        load(tmp_path, "", "loss.fusion")
    with pytest.raises(UserError, match="not YAML"):
        load(tmp_path, "", "train.lr=[1")
    with pytest.raises(UserError, match="none.yaml"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: {batch: 0}", "train.batch is 0; it must be at least 1"),
        ("train: {accumulate: 0}", "train.accumulate is 0; it must be at least 1"),
        ("train: {steps: -1}", "train.steps is -1; it must be at least 1"),
        ("train: {save_every: 0}", "train.save_every is 0; it must be at least 1"),
        ("train: {validate_every: 0}", "train.validate_every is 0; it must be at least 1"),
        ("data: {hold_out: 1}", "data.hold_out is 1.0; it must be a share below 1"),
        ("data: {hold_out: -0.1}", "data.hold_out is -0.1; it must be a share below 1"),
        ("data: {sets: {}}", "data.sets is {}; it needs at least one set"),
        ("data: {sets: {A: 0.0}}", "data.sets is {'A': 0.0}; it needs at least one set"),
        ("data: {sets: {A: 2.0, B: -1.0}}", "data.sets is .*; it needs at least one set, and shares that are not neg"),
        ("data: {sets: {A: .nan}}", "data.sets is .*; it needs at least one set, and shares that are not negative"),
        ("data: {crop: 31}", "data.crop is 31; it must be at least 32"),
        ("data: {scale: 0}", "data.scale is 0.0; it must be above 0 and at most 1"),
        ("data: {zoom: [0, 1]}", r"data.zoom is \(0.0, 1.0\); it must be two numbers above 0, the smaller first"),
        ("data: {zoom: [1.2, 1]}", r"data.zoom is \(1.2, 1.0\); it must be two numbers above 0, the smaller first"),
        ("data: {val_pairs: 0}", "data.val_pairs is 0; it must be at least 1"),
        ("data: {band: 1.5}", "data.band is 1.5; it must be a share, from 0 to 1"),
        ("train: {fusion_batch: 0}", "train.fusion_batch is 0; it must be at least 1"),
        ("train: {minutes: 0}", "train.minutes is 0.0; it must be above 0"),
        ("train: {clip: 0}", "train.clip is 0.0; it must be above 0"),
        ("train: {lr: -1}", "train.lr is -1.0; it must be at least 0"),
        ("train: {warmup: 2}", "train.warmup is 2.0; it must be a share, from 0 to 1"),
        ("train: {ema: 1}", "train.ema is 1.0; it must be a share below 1"),
    ],
)
def test_values_no_run_could_use_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=r"c\.yaml: " + message):
        load(tmp_path, text)


def test_values_are_checked_after_assignments(tmp_path):
    with pytest.raises(UserError, match="--set train.steps=0: train.steps is 0"):
        load(tmp_path, "", "train.steps=0")
    config = load(tmp_path, "data: {hold_out: 1}", "data.hold_out=0.5", "stage=FS", "train.segmenter=s.safetensors")
    assert config.data.hold_out == 0.5 and config.stage == "FS" and config.train.segmenter == "s.safetensors"
    assert load(tmp_path, "", "data.val=[A/test]").data.val == ["A/test"]


@pytest.mark.parametrize(
    "text, assignment, key, value, note",
    [
        (
            "train: {precision: bf16}",
            "train.lr=1",
            "train.precision",
            "bfloat16",
            "train.precision=bf16 is now bfloat16",
        ),
        ("", "train.precision=fp16", "train.precision", "float16", "train.precision=fp16 is now float16"),
        ("train: {precision: no}", "train.lr=1", "train.precision", "float32", "train.precision=no is now float32"),
        ("", "train.precision='no'", "train.precision", "float32", "train.precision=no is now float32"),
        ("loss: {structure: 0.7}", "train.lr=1", "loss.ssim", 0.7, "loss.structure is now loss.ssim"),
        ("", "loss.end_point_register=0", "loss.epe_register", 0.0, "loss.end_point_register is now loss.epe_register"),
        (
            "loss: {end_point_deform: 3}",
            "train.lr=1",
            "loss.epe_deform",
            3.0,
            "loss.end_point_deform is now loss.epe_d",
        ),
    ],
)
def test_earlier_names_are_taken_with_a_note(tmp_path, capsys, text, assignment, key, value, note):
    config = dataclasses.asdict(load(tmp_path, text, assignment))
    section, name = key.split(".")
    assert config[section][name] == value
    written = capsys.readouterr().err
    assert written.startswith(f"note: {note}") and written.count("\n") == 1


def test_saved_configs_are_read_by_current_names():
    saved = {"stage": "RF", "loss": {"structure": 0.3, "fusion": 10.0}, "train": {"precision": "no", "lr": 1.0}}
    current = {"stage": "RF", "loss": {"ssim": 0.3, "fusion": 10.0}, "train": {"precision": "float32", "lr": 1.0}}
    assert with_current_names(saved) == current == with_current_names(current)


def test_a_registered_loss_term_has_a_weight_in_the_config(tmp_path, monkeypatch):
    monkeypatch.setitem(FUSION_TERMS, "darkness", Term(0.25, None))
    assert load(tmp_path, "").loss["darkness"] == 0.25
    assert load(tmp_path, "loss: {darkness: 2}").loss == loss_weights(darkness=2.0)


def test_every_recipe_loads():
    recipes = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        load_config(recipe)


def test_a_curriculum_changes_how_crops_are_drawn(tmp_path):
    text = """
data: {crop: 64, residual: 0.1}
curriculum:
  0.5: {crop: 96, zoom: [0.5, 2]}
  0.25: {residual: 0.3}
"""
    config = load(tmp_path, text)
    drawn = [(data.crop, data.residual, data.zoom) for data in map(config.data_at, (0.0, 0.24, 0.25, 0.5, 1.0))]
    first, last = (0.75, 1.1), (0.5, 2.0)
    assert drawn == [(64, 0.1, first), (64, 0.1, first), (64, 0.3, first), (96, 0.3, last), (96, 0.3, last)]
    assert config.data.crop == 64  # unchanged
    assert load(tmp_path, text, "curriculum={}").data_at(1.0).crop == 64


@pytest.mark.parametrize(
    "curriculum, message",
    [
        ("{1.5: {crop: 64}}", "curriculum.1.5: the key must be a share of the run, above 0 and below 1"),
        ("{often: {crop: 64}}", "curriculum.often is 'often', not a number"),
        ("{0.5: {root: elsewhere}}", "curriculum.0.5 changes root; it may change crop, zoom"),
        ("{0.5: {crop: 4}}", "curriculum.0.5.crop is 4; it must be at least 32"),
        ("{0.5: 64}", "curriculum.0.5 is 64, not keys and values"),
    ],
)
def test_a_wrong_curriculum_is_refused(tmp_path, curriculum, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, f"curriculum: {curriculum}")
