"""The true map between the images of two unlike cameras: the file ``truth.json`` of a camera set.

{"NAME": {"vi_to_ir": 3x3, "vi_size": [width, height], "ir_size": [width, height]}, ...}

``vi_to_ir`` takes pixels of the VI file to pixels of the IR file, x to the right and y downwards, centres at whole
numbers; NAME is the stem of both files' names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError

TRUTH = "truth.json"

_SMALLEST_DETERMINANT = 1e-12


@dataclass(frozen=True)
class Truth:
    """``vi_to_ir`` ``(3, 3)`` float64, in pixels of the files, whose sizes are (width, height)."""

    vi_to_ir: Tensor
    vi_size: tuple[int, int]
    ir_size: tuple[int, int]


def truth_file(truths: Mapping[str, Truth]) -> bytes:
    """Encode the true maps of pairs, by name, as the content of a ``truth.json``."""
    content = {
        name: {
            "vi_to_ir": (truth.vi_to_ir / truth.vi_to_ir[2, 2]).tolist(),
            "vi_size": list(truth.vi_size),
            "ir_size": list(truth.ir_size),
        }
        for name, truth in truths.items()
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def read_truth(path: Path) -> dict[str, Truth]:
    """Read the true maps of a set by name; UserError names a missing or damaged file, or the pair of a bad entry."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(entries, dict):
        raise UserError(f"{path}: holds no entries by name")
    return {name: _entry(path, name, entry) for name, entry in entries.items()}


def _entry(path: Path, name: str, entry: dict) -> Truth:
    try:
        vi_to_ir = torch.tensor(entry["vi_to_ir"], dtype=torch.float64)
        (vi_width, vi_height), (ir_width, ir_height) = (map(int, entry[part]) for part in ("vi_size", "ir_size"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: the entry of {name} needs vi_to_ir (3x3), vi_size and ir_size ([width, height])"
        ) from error
    if vi_to_ir.shape != (3, 3) or not abs(float(torch.linalg.det(vi_to_ir))) > _SMALLEST_DETERMINANT:
        raise UserError(f"{path}: vi_to_ir of {name} is not a 3x3 matrix that can be inverted")
    return Truth(vi_to_ir, (vi_width, vi_height), (ir_width, ir_height))
