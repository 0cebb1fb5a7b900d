"""Configuration: defaults are in the code, a YAML file contains only differences, unknown keys are errors."""

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from datasets.training_sets import Data
from losses.objectives import Weights, loss_weights
from utils.errors import UserError
from utils.settings import ABOVE_ZERO, SHARE, SHARE_BELOW_ONE, at_least, check_rules, setting

T = TypeVar("T")

# Keys and values of earlier configs -> current names; still accepted, with a note on standard error.
RENAMED_KEYS = {
    "loss.structure": "ssim",
    "loss.end_point_register": "epe_register",
    "loss.end_point_deform": "epe_deform",
}
RENAMED_VALUES = {
    # YAML reads a bare no as false.
    "train.precision": {"no": "float32", False: "float32", "bf16": "bfloat16", "fp16": "float16"},
}


@dataclass
class Train:
    """Settings of the loop; a run ends after ``steps`` or, if set, after ``minutes``, whichever comes first."""

    steps: int = setting(20000, at_least(1))
    minutes: float | None = setting(None, ABOVE_ZERO)
    # Images per batch and process; in stage RF each yields two pairs, (warped IR, VI) and (IR, warped VI).
    batch: int = setting(16, at_least(1))
    accumulate: int = setting(1, at_least(1))  # batches per step, whose gradients are averaged
    fusion_batch: int = setting(16, at_least(1))  # stage RF: images per batch that are also fused
    optimizer: str = "adam"  # adam, or soap: Adam in the eigenbasis of Shampoo (Vyas et al., ICLR 2025)
    lr: float = setting(1e-3, at_least(0))
    warmup: float = setting(0.02, SHARE)  # share of the run
    decay: float = setting(0.6, SHARE)  # share of the run over which the learning rate falls to a thousandth
    weight_decay: float = setting(1e-5, at_least(0))
    clip: float = setting(5.0, ABOVE_ZERO)  # the largest norm of the gradient
    ema: float = setting(0.999, SHARE_BELOW_ONE)  # decay of the averaged weights, validated and saved; 0: no averaging
    precision: str = "float32"  # of convolutions: float32, bfloat16 or float16
    channels_last: bool = True  # the fastest memory layout for convolutions
    compile: bool = False  # torch.compile the convolutions, which takes minutes and pays off on a GPU
    seed: int = 0
    log_every: int = setting(1, at_least(1))  # steps; a GPU is faster if its values are read less often
    save_every: int = setting(200, at_least(1))  # steps
    validate_every: int = setting(500, at_least(1))  # steps
    init: str | None = None  # SuperFusion weights to start from (in stage SEG, to fuse with)
    segmenter: str | None = None  # BiSeNet weights: frozen in stage FS, initial in stage SEG


@dataclass
class Config:
    """A training run: ``model`` holds the arguments of :func:`models.build.build_superfusion`."""

    stage: str = "RF"  # a key of utils.training.stages.STAGES
    model: dict[str, Any] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    loss: Weights = field(default_factory=loss_weights)
    train: Train = field(default_factory=Train)
    # Changes of ``data`` during the run: share of the run -> values from there on, of keys in DRAWING.
    curriculum: dict[str, Any] = field(default_factory=dict)

    def data_at(self, done: float) -> Data:
        """Return ``data`` with the changes of the curriculum up to the share ``done`` of the run."""
        data = copy.copy(self.data)
        for share in sorted(self.curriculum, key=float):
            if float(share) <= done:
                _update(data, self.curriculum[share], "config", f"curriculum.{share}.")
        return data


# What a curriculum may change: how crops are drawn, not from which images.
DRAWING = (
    *("crop", "zoom", "band", "residual", "wide", "other_modality", "quarter_turns"),
    *("rotation", "translation", "shear", "elastic"),
)

# The parts of a Config with fixed keys, which are updated key by key; everything else is replaced as a whole.
_SECTIONS = ("data", "loss", "train")


def load_config(path: str | Path, assignments: Sequence[str] = ()) -> Config:
    """Update the defaults by a YAML file, then by ``section.key=value`` assignments (values are YAML).

    Raises UserError for a file that cannot be read, an unknown key, a value of the wrong type, or a value that violates
    the rule of its field.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable YAML file ({str(error).splitlines()[0]})") from error
    config = Config()
    _update(config, tree, str(path))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: write it as section.key=value")
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {assignment}: the value is not YAML") from None
        _update(config, _as_tree(config, key, value), f"--set {assignment}")
    source = " ".join([str(path), *(f"--set {assignment}" for assignment in assignments)])
    check_rules(config.data, f"{source}: data.")
    check_rules(config.train, f"{source}: train.")
    _check_curriculum(config, source)
    return config


def _check_curriculum(config: Config, source: str) -> None:
    for share, changes in config.curriculum.items():
        where = f"{source}: curriculum.{share}"
        if not 0 < _read(float, share, where) < 1:
            raise UserError(f"{where}: the key must be a share of the run, above 0 and below 1")
        unknown = [key for key in _read(dict, changes, where) if key not in DRAWING]
        if unknown:
            raise UserError(f"{where} changes {unknown[0]}; it may change {', '.join(DRAWING)}")
        check_rules(config.data_at(float(share)), f"{where}.")


def choose(key: str, name: str, known: Mapping[str, T]) -> T:
    """Return the entry ``name`` of the registry ``known``; raises UserError naming the config's ``key`` if unknown."""
    if name not in known:
        raise UserError(f"{key} is {name!r}; use one of {', '.join(known)}")
    return known[name]


def with_current_names(config: dict[str, Any]) -> dict[str, Any]:
    """Convert a saved config, a dictionary of sections, of an earlier version to current names."""
    renamed = {}
    for section, values in config.items():
        if section in _SECTIONS:
            values = dict(_current(f"{section}.", key, value) for key, value in values.items())
        renamed[section] = values
    return renamed


def _current(prefix: str, key: str, value: Any) -> tuple[str, Any]:
    key = RENAMED_KEYS.get(f"{prefix}{key}", key)
    values = RENAMED_VALUES.get(f"{prefix}{key}", {})
    return key, values[value] if isinstance(value, str | bool) and value in values else value


def _update(target: Any, tree: Any, source: str, prefix: str = "") -> None:
    """Update ``target``, a dataclass or a dictionary of numbers, by the values in ``tree``."""
    if not isinstance(tree, dict):
        raise UserError(f"{source}: {prefix.rstrip('.') or 'the file'} must hold keys and values")
    values = target if isinstance(target, dict) else vars(target)
    kinds = dict.fromkeys(target, float) if isinstance(target, dict) else get_type_hints(type(target))
    for key, value in tree.items():
        new_key, new_value = _current(prefix, key, value)
        if new_key != key:
            print(f"note: {prefix}{key} is now {prefix}{new_key}", file=sys.stderr)
        if new_value is not value:
            print(f"note: {prefix}{key}={'no' if value is False else value} is now {new_value}", file=sys.stderr)
        if new_key not in kinds:
            raise UserError(f"{source}: unknown key {prefix}{key}; known are {', '.join(kinds)}")
        if prefix + new_key in _SECTIONS:
            _update(values[new_key], new_value, source, f"{new_key}.")
        else:
            values[new_key] = _read(kinds[new_key], new_value, f"{source}: {prefix}{new_key}")


def _as_tree(config: Config, key: str, value: Any) -> dict[str, Any]:
    """Return the tree that sets the dotted ``key``; in ``model`` and ``data.sets`` the other entries are kept."""
    section, *names = key.split(".")
    if section == "model" and names:
        return {"model": _with_entry(config.model, names, value)}
    if key.startswith("data.sets."):
        return {"data": {"sets": config.data.sets | {key.removeprefix("data.sets."): value}}}
    return {section: {".".join(names): value}} if names else {section: value}


def _with_entry(tree: Any, path: list[str], value: Any) -> dict[str, Any]:
    key, *rest = path
    tree = tree if isinstance(tree, dict) else {}
    return tree | {key: _with_entry(tree.get(key), rest, value) if rest else value}


_WORDS = {int: "a whole number", bool: "true or false", str: "text", dict: "keys and values"}


def _read(kind: Any, value: Any, where: str) -> Any:
    """Convert ``value``, as read from YAML, to ``kind``, the type annotation of its field."""
    if kind in (float | None, str | None):
        return None if value is None else _read(get_args(kind)[0], value, where)
    if kind == dict[str, float]:
        return {str(name): _read(float, x, f"{where}.{name}") for name, x in _read(dict, value, where).items()}
    if kind == dict[str, Any]:
        return _read(dict, value, where)
    if kind == list[str]:
        if not isinstance(value, list):
            raise UserError(f"{where} is {value!r}, not a list")
        return [str(item) for item in value]
    if kind == tuple[float, float]:
        if not (isinstance(value, list) and len(value) == 2):
            raise UserError(f"{where} is {value!r}, not two numbers")
        return tuple(_read(float, x, where) for x in value)
    if kind is float:
        # YAML reads 1e-3 as text, since it requires a dot before the exponent.
        try:
            return float(value)
        except (TypeError, ValueError):
            raise UserError(f"{where} is {value!r}, not a number") from None
    if type(value) is not kind:
        raise UserError(f"{where} is {value!r}, not {_WORDS[kind]}")
    return value
