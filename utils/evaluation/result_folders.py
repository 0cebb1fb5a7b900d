"""Find the files in a method's result folder by kind, and report missing or unreadable ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.partners import files_by_name

KINDS = ("fused", "registered", "flow", "transform", "seg")
# Kinds of files other than images -> (their content, the reference data that scoring requires).
REFERENCES = {"flow": ("flows", "true flow"), "transform": ("transforms", "true map"), "seg": ("class maps", "labels")}
_SUFFIX = {"flow": ".npz", "transform": ".json"}


@dataclass(frozen=True)
class Results:
    """The files of one method: per kind (one of :data:`KINDS`), the paths by name."""

    method: str
    files: dict[str, dict[str, Path]]


def open_results(
    assignment: str,
    has_true_flow: bool,
    has_label: bool = False,
    kinds: Sequence[str] = KINDS,
    has_true_map: bool = False,
    suffix: str = "",
) -> Results:
    """Find the files of ``NAME=DIR``, of these ``kinds``, that can be scored against the data set.

    ``suffix`` is taken off the names that end in it.

    Registered images are used only if there are no flows that can be scored. Of pairs of unlike cameras, which have a
    true map and are not aligned, transforms are used, or flows if there are none, and no images but class maps.
    """
    method, separator, folder = assignment.partition("=")
    if not (method and separator and folder):
        raise UserError(f"--results {assignment}: write NAME=DIR")
    folder = Path(folder)
    parts = {kind: folder / kind for kind in kinds if (folder / kind).is_dir()}
    if has_true_map:
        parts = {kind: path for kind, path in parts.items() if kind not in ("fused", "registered")}
        if not parts:
            raise UserError(f"{folder}: no transform/ or flow/ in it; images of unlike cameras cannot be scored")
    if not parts:
        return Results(method, {"fused": _without_suffix(files_by_name(folder), suffix)})
    known = {"flow": has_true_flow or has_true_map, "transform": has_true_map, "seg": has_label}
    unscored = [REFERENCES[kind] for kind in REFERENCES if not known[kind] and parts.pop(kind, None)]
    if not parts:
        content, reference = (" or ".join(words) for words in zip(*unscored))
        raise UserError(f"{folder}: holds {content} only, and the data set has no {reference} to score them against")
    if "flow" in parts:
        parts.pop("registered", None)
    if "transform" in parts:
        parts.pop("flow", None)
    suffixed = {kind: parts.pop(kind) for kind in _SUFFIX if kind in parts}
    files = {kind: files_by_name(path, recursive=True) for kind, path in parts.items()}
    for kind, path in suffixed.items():
        found = path.rglob(f"*{_SUFFIX[kind]}")
        files[kind] = {file.relative_to(path).with_suffix("").as_posix(): file for file in found}
    return Results(method, {kind: _without_suffix(found, suffix) for kind, found in files.items()})


def _without_suffix(files: dict[str, Path], suffix: str) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for name, path in files.items():
        name = name.removesuffix(suffix)
        if name in named:
            raise UserError(f"{path}: is named as {named[name].name} without the suffix {suffix}; keep one of them")
        named[name] = path
    return named


def missing_files(results: Results, names: list[str]) -> list[str]:
    """Return one line for each kind of file that ``results`` lacks for some of the data set's ``names``."""
    lines = []
    for kind, files in results.files.items():
        missing = [name for name in names if name not in files]
        if len(missing) == len(names):
            lines.append(
                f"{results.method}: no {kind} file carries a name of the data set, such as {names[0]}; "
                "where they end in one thing more, --suffix _fused takes it off"
            )
        elif missing:
            listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} others" if len(missing) > 5 else "")
            lines.append(f"{results.method}: no {kind} file for {listed}")
    return lines


def read_estimated_flow(path: Path, key: str = "flow_ir2vi") -> Tensor:
    """Read ``flow_ir2vi`` or ``map_vi2ir`` ``(2, H, W)`` in pixels from a file of ``test.py --save_flow``."""
    try:
        with np.load(path) as content:
            return torch.from_numpy(content[key].astype(np.float32))
    except Exception as error:  # NumPy raises half a dozen unrelated kinds for a damaged file
        raise UserError(f"{path}: not a readable .npz file with the key {key!r}") from error
