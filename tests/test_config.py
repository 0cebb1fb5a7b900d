"""Config files: defaults, differences, refusals."""

from pathlib import Path

import pytest

from utils.config import Config, load_config
from utils.errors import UserError


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
        ("loss: {fussion: 1}", "unknown key loss.fussion; known are end_point"),
        ("losses: {}", "unknown key losses"),
        ("train: {batch: many}", "train.batch is 'many', not of kind int"),
        ("train: {lr: fast}", "train.lr is 'fast', not a number"),
        ("train: 3", "train must hold keys"),
        ("- a list", "must hold keys"),
        ("a: [", "not a readable YAML"),
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


def test_every_recipe_loads():
    recipes = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        load_config(recipe)
