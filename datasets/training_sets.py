"""The data of a training run: which sets, how each is opened, and which of its pairs are kept for validation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from datasets.paired import PairedFolders, PairSet
from datasets.toy import ToyScenes
from utils.errors import UserError
from utils.settings import SHARE, SHARE_BELOW_ONE, Rule, at_least, setting

# Sets with a reader of their own, by the part of their name before the slash: a function of the folder
# ``root/SET/SPLIT`` and of whether labels are needed. All others are read as paired folders.
READERS: dict[str, Callable[[Path, bool], PairSet]] = {"toy": lambda folder, labels: ToyScenes()}

_SHARES = Rule(
    lambda sets: all(share >= 0 for share in sets.values()) and 0 < sum(sets.values()) < math.inf,
    "it needs at least one set, and shares that are not negative",
)
_SCALE = Rule(lambda scale: 0 < scale <= 1, "it must be above 0 and at most 1")
_ZOOM = Rule(lambda zoom: 0 < zoom[0] <= zoom[1], "it must be two numbers above 0, the smaller first")


@dataclass
class Data:
    """What to train on. ``root`` holds ``SET/SPLIT/{ir,vi[,label]}``; the set "toy" needs no files."""

    root: str = "data"
    sets: dict[str, float] = setting({"RoadScene/train": 1.0}, _SHARES)  # each SET/SPLIT and its share of the crops
    val: list[str] = field(default_factory=list)  # validate on these SET/SPLIT ...
    hold_out: float = setting(0.0, SHARE_BELOW_ONE)  # ... and on this share of each training set, its last pairs
    val_pairs: int = setting(20, at_least(1))  # the most pairs of one set to validate on
    scale: float = setting(1.0, _SCALE)  # images are reduced to this share of their size before cropping
    crop: int = setting(256, at_least(32))
    zoom: tuple[float, float] = setting((0.75, 1.1), _ZOOM)  # image pixels per crop pixel, relative to the scale
    band: float = setting(0.33, SHARE)  # share of samples placed without regard to the warped image's black band
    residual: float = setting(0.0, SHARE)  # share of samples nearly registered, as a matcher's second pass sees them
    quarter_turns: bool = False
    rotation: float = 10.0  # this and the next three: see datasets/deformation.py
    translation: float = 0.05
    shear: float = 0.03
    elastic: float = 1.6
    input: str = "vi"  # what stage SEG segments: vi, ir or fused (by the model of train.init)


def open_set(config: Data, name: str, labels: bool) -> PairSet:
    """Open the pairs of ``config.root/name`` (``SET/SPLIT``), with label maps if ``labels``.

    Raises UserError if the folder is not there, or not laid out as ``python -m datasets.prepare`` does.
    """
    folder, reader = Path(config.root) / name, READERS.get(name.split("/")[0])
    if reader:
        return reader(folder, labels)
    if not (folder / "ir").is_dir():
        raise UserError(
            f"{folder / 'ir'}: no such file or folder; data.root must hold {name}/{{ir,vi}}, "
            "as python -m datasets.prepare lays it out"
        )
    return PairedFolders(folder / "ir", folder / "vi", label=folder / "label" if labels else None)


def held_out(config: Data, count: int) -> int:
    """Return how many of the ``count`` pairs of a training set, the last by name, are kept for validation."""
    return round(config.hold_out * count)
