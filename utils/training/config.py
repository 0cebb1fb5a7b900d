"""Configuration: defaults stand here, a YAML file holds only what differs, unknown keys are refused."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError

# Section, keys, what their values must fulfil, and that in words.
_RULES = (
    ("train", "batch accumulate steps save_every validate_every fusion_batch", lambda v: v >= 1, "at least 1"),
    ("train", "minutes clip", lambda v: v > 0, "above 0"),
    ("train", "lr weight_decay", lambda v: v >= 0, "at least 0"),
    ("train", "warmup decay", lambda v: 0 <= v <= 1, "a share, from 0 to 1"),
    ("train", "ema", lambda v: 0 <= v < 1, "a share below 1"),
    ("data", "val_pairs", lambda v: v >= 1, "at least 1"),
    ("data", "crop", lambda v: v >= 32, "at least 32"),
    ("data", "scale", lambda v: 0 < v <= 1, "above 0 and at most 1"),
    ("data", "zoom", lambda v: 0 < v[0] <= v[1], "two numbers above 0, the smaller first"),
    ("data", "hold_out", lambda v: 0 <= v < 1, "a share below 1"),
    ("data", "band residual", lambda v: 0 <= v <= 1, "a share, from 0 to 1"),
)


@dataclass
class Data:
    """What to train on. ``root`` holds ``SET/SPLIT/{ir,vi[,label]}``; the set "toy" needs no files."""

    root: str = "data"
    sets: dict[str, float] = field(default_factory=lambda: {"RoadScene/train": 1.0})  # each SET/SPLIT and its share
    val: list[str] = field(default_factory=list)  # validate on these SET/SPLIT ...
    hold_out: float = 0.0  # ... and on this share of each training set, the last by name, which is then not trained on
    val_pairs: int = 20  # the most pairs of one set to validate on
    scale: float = 1.0  # images are reduced to this share of their size before cropping
    crop: int = 256
    zoom: tuple[float, float] = (0.75, 1.1)  # image pixels a crop pixel covers, relative to the scale
    band: float = 0.33  # share of samples placed without regard to the black band of the warped image
    residual: float = 0.0  # share of samples that are nearly registered, as a second pass of the matcher finds them
    quarter_turns: bool = False
    rotation: float = 10.0  # this and the next three: see datasets/deformation.py
    translation: float = 0.05
    shear: float = 0.03
    elastic: float = 1.6
    input: str = "vi"  # what stage SEG segments: vi, ir or fused (by the model of train.init)


@dataclass
class Loss:
    """Weights of the terms; a term with weight 0 is not computed. Stage RF has the first twelve, F the fusion terms."""

    photometric: float = 10.0
    end_point_register: float = 0.1  # the field that undoes the deformation, as at test time
    end_point_deform: float = 0.1  # the deformation itself, the other direction
    smoothness: float = 0.1
    border: float = 1.0
    fusion: float = 10.0  # times the next five
    gradient: float = 0.6
    structure: float = 0.3
    intensity: float = 0.1
    selection: float = 0.0  # ours: region by region the source that shows more
    detail: float = 0.0  # ours: its texture, faint or strong
    consistency: float = 1.0
    semantic: float = 1.0  # stage FS, beside the fusion terms
    cross_entropy: float = 1.0  # stage SEG
    lovasz: float = 1.0  # stage SEG


@dataclass
class Train:
    """How to train; the run ends after ``steps`` or, if it is set, after ``minutes``, whichever comes first."""

    steps: int = 20000
    minutes: float | None = None
    batch: int = 16  # images a step and process; in stage RF each gives two pairs, (warped IR, VI) and (IR, warped VI)
    accumulate: int = 1  # batches whose gradients make one step
    fusion_batch: int = 16  # of the images of a batch in stage RF, those that also go through fusion
    optimizer: str = "adam"  # adam, or soap: Adam in the eigenbasis of Shampoo (Vyas et al., ICLR 2025)
    lr: float = 1e-3
    warmup: float = 0.02  # share of the run
    decay: float = 0.6  # share of the run over which the learning rate falls, to a thousandth at its end
    weight_decay: float = 1e-5
    clip: float = 5.0
    ema: float = 0.999  # decay of the averaged weights, which are those validated and kept; 0: no average
    precision: str = "no"  # mixed precision: no, bf16 or fp16
    channels_last: bool = True  # the memory layout that convolutions are fastest in
    compile: bool = False  # torch.compile the convolutions; worth its minutes on a GPU
    seed: int = 0
    save_every: int = 200
    validate_every: int = 500
    init: str | None = None  # SuperFusion weights to start from (stage SEG: to fuse with)
    segmenter: str | None = None  # BiSeNet weights: the frozen segmenter of stage FS, where stage SEG starts


@dataclass
class Config:
    """A training run: ``model`` holds SuperFusion's constructor arguments."""

    stage: str = "RF"  # RF: registration and fusion; F: fusion; FS: fusion for segmentation; SEG: the segmenter
    model: dict[str, Any] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    loss: Loss = field(default_factory=Loss)
    train: Train = field(default_factory=Train)

    def check(self, source: str) -> None:
        """Raise UserError, naming ``source``, for values that no run could use."""
        for key, value, known in (
            ("stage", self.stage, ("RF", "F", "FS", "SEG")),
            ("data.input", self.data.input, ("vi", "ir", "fused")),
            ("train.precision", self.train.precision, ("no", "bf16", "fp16")),
            ("train.optimizer", self.train.optimizer, ("adam", "soap")),
        ):
            if value not in known:
                raise UserError(f"{source}: {key} is {value!r}; use one of {', '.join(known)}")
        for section, keys, fits, rule in _RULES:
            for key in keys.split():
                value = getattr(getattr(self, section), key)
                if value is not None and not fits(value):
                    raise UserError(f"{source}: {section}.{key} is {value}; it must be {rule}")
        shares = self.data.sets.values()
        if not (all(share >= 0 for share in shares) and 0 < sum(shares) < math.inf):
            raise UserError(f"{source}: data.sets needs at least one set, and shares that are not negative")
        if self.stage == "SEG" and self.train.batch < 2:
            raise UserError(f"{source}: train.batch is 1; stage SEG normalises over a batch and needs at least 2")


def load_config(path: str | Path, assignments: list[str] = ()) -> Config:
    """Read a YAML file onto the defaults, then apply ``section.key=value`` assignments (values are YAML).

    Raises UserError for a file that cannot be read, an unknown key or a value of the wrong kind.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable YAML file ({str(error).splitlines()[0]})") from error
    config = Config()
    _merge(config, tree, str(path))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: write it as section.key=value")
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {assignment}: the value is not YAML") from None
        _assign(config, key.split("."), value, f"--set {assignment}")
    config.check(" ".join([str(path), *(f"--set {assignment}" for assignment in assignments)]))
    return config


def _assign(config: Config, path: list[str], value: Any, source: str) -> None:
    node: Any = config
    for depth, part in enumerate(path[:-1], start=1):
        node = getattr(node, part, None)
        if isinstance(node, dict):  # one key of a dictionary changes, its others stay
            path, value = path[:depth], node | {".".join(path[depth:]): value}
            break
    for part in reversed(path):
        value = {part: value}
    _merge(config, value, source)


def _merge(target: Any, tree: Any, source: str, prefix: str = "") -> None:
    if not isinstance(tree, dict):
        raise UserError(f"{source}: {prefix.rstrip('.') or 'the file'} must hold keys and values")
    known = {f.name: f for f in dataclasses.fields(target)}
    for key, value in tree.items():
        if key not in known:
            raise UserError(f"{source}: unknown key {prefix}{key}; known are {', '.join(known)}")
        current = getattr(target, key)
        if dataclasses.is_dataclass(current):
            _merge(current, value, source, f"{prefix}{key}.")
        else:
            setattr(target, key, _convert(value, current, known[key], f"{source}: {prefix}{key}"))


def _convert(value: Any, current: Any, known: dataclasses.Field, where: str) -> Any:
    optional = "None" in str(known.type)
    if value is None and optional:
        return None
    if isinstance(current, tuple) and isinstance(value, list) and len(value) == len(current):
        return tuple(_convert(v, c, known, where) for v, c in zip(value, current))
    if isinstance(value, dict) and known.type == dict[str, float]:
        return {str(k): _convert(v, 0.0, known, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list) and known.type == list[str]:
        return [str(v) for v in value]
    if isinstance(current, float) or (optional and "float" in str(known.type)):
        # YAML reads 1e-3 as text: it wants a dot before the exponent.
        try:
            return float(value)
        except (TypeError, ValueError):
            raise UserError(f"{where} is {value!r}, not a number") from None
    kind = str if optional else type(current)
    if kind is str and not optional and value is False:
        return "no"  # which YAML takes for a truth value
    if type(value) is not kind:
        raise UserError(f"{where} is {value!r}, not of kind {kind.__name__}")
    return value
