"""The data of a training run: its sets, their readers, and the pairs held out for validation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from datasets.paired import PairedFolders, PairSet
from datasets.toy import ToyScenes
from utils.errors import UserError
from utils.files.infrared import Reading
from utils.files.polarity import POLARITIES
from utils.settings import SHARE, SHARE_BELOW_ONE, Rule, at_least, one_of, setting

# Sets with their own reader, by the part of the name before the slash: functions (folder ``root/SET/SPLIT``, whether
# labels are needed) -> PairSet. All other sets are read as paired folders.
READERS: dict[str, Callable[[Path, bool], PairSet]] = {"toy": lambda folder, labels: ToyScenes()}

_SHARES = Rule(
    lambda sets: all(share >= 0 for share in sets.values()) and 0 < sum(sets.values()) < math.inf,
    "it needs at least one set, and shares that are not negative",
)
_IR_SHARES = Rule(lambda sets: all(0 <= share < math.inf for share in sets.values()), "shares must not be negative")
_SCALE = Rule(lambda scale: 0 < scale <= 1, "it must be above 0 and at most 1")
_ZOOM = Rule(lambda zoom: 0 < zoom[0] <= zoom[1], "it must be two numbers above 0, the smaller first")


@dataclass
class Data:
    """Training and validation data: ``root`` holds ``SET/SPLIT/{ir,vi[,label]}``; the set "toy" needs no files."""

    root: str = "data"
    sets: dict[str, float] = setting({"RoadScene/train": 1.0}, _SHARES)  # each SET[/SPLIT] and its share of the crops
    # SET/SPLIT/ir without partners, and their shares of the deformed crops (stages R and RF), each image matched with a
    # made-up other modality of itself.
    ir_sets: dict[str, float] = setting({}, _IR_SHARES)
    val: list[str] = field(default_factory=list)  # validate on these SET/SPLIT ...
    hold_out: float = setting(0.0, SHARE_BELOW_ONE)  # ... and on this share of each training set, its last pairs
    val_pairs: int = setting(20, at_least(1))  # the largest number of validation pairs from one set
    # Of IR, in sets without a reader of their own; auto judges each set. Black hot is inverted.
    polarity: str = setting("white_hot", one_of(*POLARITIES))
    scale: float = setting(1.0, _SCALE)  # images are reduced to this share of their size before cropping
    crop: int = setting(256, at_least(32))
    zoom: tuple[float, float] = setting((0.75, 1.1), _ZOOM)  # image pixels per crop pixel, relative to the scale
    band: float = setting(0.33, SHARE)  # share of samples placed without regard to the warped image's black band
    residual: float = setting(0.0, SHARE)  # share of nearly registered samples, as in the matcher's second pass
    wide: float = setting(0.0, SHARE)  # share of samples with the ranges WIDE of datasets/deformation.py
    registered: float = setting(0.0, SHARE)  # stages F and FS: share of crops whose IR is off as after a registration
    other_modality: float = setting(0.0, SHARE)  # share of pairs of which one image is made up from the other
    quarter_turns: bool = False
    rotation: float = 10.0  # for this and the next three see Ranges in datasets/deformation.py
    translation: float = 0.05
    shear: float = 0.03
    elastic: float = 1.6
    input: str = "vi"  # what stage SEG segments: vi, ir, fused (by the model of train.init), or mixed, all in turn


def open_set(config: Data, name: str, labels: bool) -> PairSet:
    """Open the pairs of ``config.root/name`` (``SET`` or ``SET/SPLIT``), with label maps if ``labels``.

    Raises UserError if a folder is missing, with what to do about it.
    """
    folder, reader = Path(config.root) / name, READERS.get(name.split("/")[0])
    if reader:
        return reader(folder, labels)
    if not (folder / "ir").is_dir() and name in config.val:
        raise UserError(
            f"{folder / 'ir'}: no such folder, to validate on (data.val); to validate on a tenth of the training "
            "pairs: --set 'data.val=[]' --set data.hold_out=0.1"
        )
    if not (folder / "ir").is_dir():
        raise UserError(
            f"{folder / 'ir'}: no such file or folder; data.root must hold {name}/{{ir,vi}}, "
            "as python -m datasets.prepare lays it out; your own pairs: configs/own.yaml"
        )
    if labels and not (folder / "label").is_dir():
        raise UserError(
            f"{folder / 'label'}: no such folder; the stages FS and SEG need a class map for each visible image, an "
            "8-bit PNG of its name; without any, train stage RF or F"
        )
    label = folder / "label" if labels else None
    return PairedFolders(folder / "ir", folder / "vi", label=label, reading=Reading(polarity=config.polarity))


def open_ir_set(config: Data, name: str) -> PairSet:
    """Open ``config.root/name/ir``, images without partners, as pairs of each image with itself."""
    folder = Path(config.root) / name / "ir"
    return PairedFolders(folder, folder, reading=Reading(polarity=config.polarity))


def held_out(config: Data, count: int) -> int:
    """Return the number of held-out pairs, the last by name, of a training set of ``count`` pairs.

    At least one, if any are to be held out.
    """
    return max(1, round(config.hold_out * count)) if config.hold_out else 0
