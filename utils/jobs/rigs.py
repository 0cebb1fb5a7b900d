"""Calibrate a rig: register its pairs one by one, and make one transform for all of them."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.paired import Pair, PairSet
from models.registration import Transform
from models.registration.averaging import anchors
from models.registration.rig import JOINT, Rig, average, refine
from models.results import Registration
from models.warping import resize
from utils.errors import UserError
from utils.figures.overlays import checkerboard, gradient_overlay
from utils.figures.pair_sheet import PANEL_SIDE
from utils.figures.sheets import sheet
from utils.figures.spread import spread_picture
from utils.files.images import write_image
from utils.files.results import write_csv, write_json
from utils.notes import Notes

FEWEST = 3  # accepted pairs, of which most must agree
_SPREAD_LENGTH = 0.04  # of VI's width: the typical line of the picture of the spread
_DRAWN = 24  # single pairs at most in that picture
_SHEET_SIDE = PANEL_SIDE // 2


def calibrate(
    pairs: PairSet, register: Callable[[Tensor, Tensor], Registration], path: Path, out: Path
) -> tuple[dict, list[str]]:
    """Calibrate the rig of ``pairs`` by ``register``, write its transform to ``path``, and to ``out`` a row per pair
    (``per_image.csv``), a summary (``summary.json``) and a sheet (``rig.png``).

    Pairs that are refused, or of other sizes than most, are left out. Returns the summary, and a line for each pair
    that cannot be read. Raises UserError if too few are left or they do not agree; then nothing is written.
    """
    rows, found, failures = register_all(pairs, register)
    rig = calibrated(pairs, found)
    for number, index in enumerate(found):
        rows[index] |= {"distance_px": rig.distances[number], "weight": rig.weights[number]}
    summary = summarise(rig, len(pairs)) | {"failed": len(failures)}
    rig.transform.save(path)
    write_csv(out / "per_image.csv", list(rows.values()))
    write_json(out / "summary.json", summary)
    write_image(out / "rig.png", rig_sheet(rig, pairs, found))
    return summary, failures


def register_all(
    pairs: PairSet, register: Callable[[Tensor, Tensor], Registration]
) -> tuple[dict[int, dict], dict[int, Transform], list[str]]:
    """Register all pairs: rows for a table and the usable transforms, both by the pairs' indices, and failures."""
    rows, found, failures = {}, {}, []
    bar = tqdm(pairs.names, unit="pair", disable=None)
    notes = Notes(lambda line: bar.write(line, file=sys.stderr))
    for index, name in enumerate(bar):
        try:
            pair = pairs[index]
            notes.tell(name, pair.notes)
            registration = register(given_ir(pair)[None], pair.vi[None])
        except (UserError, ValueError) as error:
            failures.append(str(error) if isinstance(error, UserError) else f"{name}: {error}")
            continue
        (transform,) = registration.transforms
        rows[index] = {"name": name, "accepted": int(transform.accepted), "confidence": transform.confidence}
        if transform.accepted:
            found[index] = transform
        else:
            bar.write(f"{name}: refused, confidence {transform.confidence:.2f}; left out", file=sys.stderr)
    notes.close()
    sizes = Counter((transform.vi_size, transform.ir_size) for transform in found.values())
    for index, transform in list(found.items()):
        if (transform.vi_size, transform.ir_size) != sizes.most_common(1)[0][0]:
            print(f"{pairs.names[index]}: of another size than most; left out", file=sys.stderr)
            del found[index]
    return rows, found, failures


def calibrated(pairs: PairSet, found: dict[int, Transform]) -> Rig:
    """Average the transforms ``found`` and refine the mean on the pairs of the largest weights."""
    if len(found) < FEWEST:
        raise UserError(
            f"a rig needs {FEWEST} pairs that are accepted, of {len(pairs)} there are {len(found)}; give more pairs, "
            "or another --scale or --rotation"
        )
    transforms = list(found.values())
    rig = average(transforms)
    if 2 * sum(rig.agree) <= len(found):
        raise UserError(
            f"only {sum(rig.agree)} of {len(found)} accepted pairs agree on one map; a rig's cameras are fixed to each "
            "other, and its scenes lie at a distance"
        )
    weights = dict(zip(found, rig.weights))
    chosen = sorted(sorted(found, key=lambda index: -weights[index])[:JOINT])

    def images() -> Iterator[tuple[Tensor, Tensor]]:
        for index in tqdm(chosen, unit="pair", desc="all together", disable=None):
            pair = pairs[index]
            yield given_ir(pair)[None], pair.vi[None]

    return refine(rig, transforms, images(), [weights[index] for index in chosen])


def given_ir(pair: Pair) -> Tensor:
    """Return the IR image ``(C, h, w)`` of a pair as a camera gave it: of a test set the deformed one."""
    return pair.ir if pair.ir_warp is None else pair.ir_warp


def summarise(rig: Rig, pairs: int) -> dict:
    """Summarise the spread of single pairs around a rig made of ``pairs`` pairs, in pixels of VI."""
    distances = torch.tensor(rig.distances, dtype=torch.float64)
    spread = {"median": float(distances.median()), "mean": float(distances.mean()), "largest": float(distances.max())}
    agreeing = {"pairs": pairs, "used": len(distances), "agree": sum(rig.agree)}
    return agreeing | {"confidence": rig.transform.confidence, "spread_px": spread}


def rig_sheet(rig: Rig, pairs: PairSet, found: dict[int, Transform]) -> Tensor:
    """Draw the nearest, the median and the farthest pair under the rig's transform, and the spread of all."""
    indices = [index for _, index in sorted(zip(rig.distances, found))]
    distances = dict(zip(found, rig.distances))
    width, height = rig.transform.vi_size
    scale = min(1.0, _SHEET_SIDE / max(width, height))
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    befores, afters, boards = {}, {}, {}
    for which, index in zip(("nearest", "median", "farthest"), (indices[0], indices[len(indices) // 2], indices[-1])):
        pair = pairs[index]
        registered = resize(rig.transform.warp_ir(given_ir(pair)[None], "bilinear")[0], size)[0]
        ir, vi = (resize(image[None], size)[0] for image in (given_ir(pair), pair.vi))
        caption = f"{which}, {distances[index]:.1f} px: {pairs.names[index]}"
        befores[f"{caption}, frames fitted"] = gradient_overlay(ir, vi)
        afters[f"{caption}, by the rig"] = gradient_overlay(registered, vi)
        boards[f"{caption}, checkerboard"] = checkerboard(vi, registered)
        if which == "nearest":
            points = anchors(rig.transform)[::3]
            drawn = list(found.values())[:: -(-len(found) // _DRAWN)]
            moved = torch.stack([t.to_vi(rig.transform.to_ir(points)) - points for t in drawn])
            typical = float(moved.norm(dim=2).median())
            enlarged = max(1, round(_SPREAD_LENGTH * width / max(typical, 1e-6)))
            spread = spread_picture(vi, (points + 0.5) * scale - 0.5, moved * scale, enlarged)
    return sheet(
        befores | afters | boards | {f"{len(drawn)} single pairs around the rig, {enlarged} times enlarged": spread}
    )
