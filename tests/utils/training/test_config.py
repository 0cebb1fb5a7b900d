"""Config files: defaults, differences, refusals."""

from pathlib import Path

import pytest

from utils.errors import UserError
from utils.training.config import Config, load_config


def load(tmp_path, text, *assignments):
    (tmp_path / "c.yaml").write_text(text)
    return load_config(tmp_path / "c.yaml", list(assignments))


def test_only_differences_are_written(tmp_path):
    config = load(tmp_path, "train: {batch: 3, lr: 1e-4}\ndata: {zoom: [0.5, 1]}")
    assert config.train.batch == 3 and config.train.lr == 1e-4 and config.data.zoom == (0.5, 1.0)
    assert config.loss == Config().loss and config.train.steps == Config().train.steps
    assert load(tmp_path, "") == Config()


def test_assignments_come_last(tmp_path):
    config = load(tmp_path, "loss: {fusion: 2}", "loss.fusion=0", "train.minutes=1.5", "data.sets={A/train: 1.0}")
    assert config.loss.fusion == 0 and config.train.minutes == 1.5 and config.data.sets == {"A/train": 1.0}
    changed = load(tmp_path, "model: {correlation: squared, cost_dilation: 2}", "model.inputs=rgb")
    assert changed.model == {"correlation": "squared", "cost_dilation": 2, "inputs": "rgb"}
    assert load(tmp_path, "data: {sets: {A: 1.0}}", "data.sets.B=2.0").data.sets == {"A": 1.0, "B": 2.0}
    assert load(tmp_path, "train: {minutes: 3}", "train.minutes=null").train.minutes is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("loss: {fussion: 1}", "unknown key loss.fussion; known are photometric, end_point_register"),
        ("losses: {}", "unknown key losses"),
        ("train: {batch: many}", "train.batch is 'many', not of kind int"),
        ("train: {lr: fast}", "train.lr is 'fast', not a number"),
        ("train: 3", "train must hold keys"),
        ("- a list", "must hold keys"),
        ("a: [", "not a readable YAML"),
        ("data: {band: [1]}", r"data.band is \[1\], not a number"),
        ("data: {zoom: 1}", "data.zoom is 1, not of kind tuple"),
        ("data: {quarter_turns: 1}", "data.quarter_turns is 1, not of kind bool"),
        ("train: {init: 3}", "train.init is 3, not of kind str"),
        ("model: 3", "model is 3, not of kind dict"),
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
        ("stage: rf", "stage is 'rf'; use one of RF, F, FS, SEG"),
        ("data: {input: thermal}", "data.input is 'thermal'; use one of vi, ir, fused"),
        ("train: {precision: fp8}", "train.precision is 'fp8'; use one of no, bf16, fp16"),
        ("train: {batch: 0}", "train.batch is 0; it must be at least 1"),
        ("train: {accumulate: 0}", "train.accumulate is 0; it must be at least 1"),
        ("train: {steps: -1}", "train.steps is -1; it must be at least 1"),
        ("train: {save_every: 0}", "train.save_every is 0; it must be at least 1"),
        ("train: {validate_every: 0}", "train.validate_every is 0; it must be at least 1"),
        ("data: {hold_out: 1}", "data.hold_out is 1.0; it must be a share below 1"),
        ("data: {hold_out: -0.1}", "data.hold_out is -0.1; it must be a share below 1"),
        ("data: {sets: {}}", "data.sets needs at least one set"),
        ("data: {sets: {A: 0.0}}", "data.sets needs at least one set"),
        ("data: {sets: {A: 2.0, B: -1.0}}", "data.sets needs at least one set, and shares that are not negative"),
    ],
)
def test_values_no_run_could_use_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=r"c\.yaml: " + message):
        load(tmp_path, text)


def test_values_are_checked_after_assignments(tmp_path):
    with pytest.raises(UserError, match="--set stage=XX: stage is 'XX'"):
        load(tmp_path, "", "stage=XX")
    config = load(tmp_path, "data: {hold_out: 1}", "data.hold_out=0.5", "stage=FS", "train.segmenter=s.safetensors")
    assert config.data.hold_out == 0.5 and config.stage == "FS" and config.train.segmenter == "s.safetensors"
    assert load(tmp_path, "", "data.val=[A/test]").data.val == ["A/test"]


def test_no_is_a_precision(tmp_path):
    assert load(tmp_path, "train: {precision: bf16}", "train.precision=no").train.precision == "no"
    assert load(tmp_path, "train: {precision: no}").train.precision == "no"


def test_every_recipe_loads():
    recipes = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        load_config(recipe)
