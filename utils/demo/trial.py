"""One pair of files, registered and fused as ``test.py`` does, with the pictures and the words that a page shows."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datasets.paired import PairedFolders
from models import Pipeline, SuperFusion
from models.registration import Transform
from models.registration.decision import LIMIT
from models.registration.reasons import why_refused
from models.registration.registrar import ROTATION, SCALE
from utils.errors import UserError
from utils.figures.flows import flow_colours
from utils.figures.overlays import gradient_overlay
from utils.files.infrared import DEFAULT
from utils.jobs.pairs import Processed, Task, pictures_of, pictures_on_ir, process, save

# What found a transform (Transform.source), in words.
_SOURCES = {
    "narrow": "both cameras see nearly the same frame",
    "wide": "found among other fields of view and rotations",
    "network": "from the network's answer",
    "both": "from the network's answer and the search's, which agree",
    "rig": "your points, as they are",
    "rig, refined": "your points, refined",
}


@dataclass(frozen=True)
class Settings:
    """The options of ``test.py`` of these names."""

    registrar: str = "auto"
    search: str = "auto"
    scale: tuple[float, float] = SCALE
    rotation: float = ROTATION
    frame: str = "vi"
    ir_strength: float = 1.0
    precision: str = "float32"
    keep_refused: bool = False


@dataclass(frozen=True)
class Shown:
    """Pictures ``(1 or 3, H, W)`` of one pair: the image that stayed and the one that was brought onto its frame
    (``fixed``, ``moved``), IR's gradients on VI ``before`` and ``after``, the ``flow`` as colours, and the ``fused``
    image, None of a refused pair.
    """

    fixed: Tensor
    moved: Tensor
    before: Tensor
    after: Tensor
    flow: Tensor
    fused: Tensor | None


@dataclass(frozen=True)
class Trial:
    """What a trial found: the ``verdict`` ("accepted", "refused" or "not judged"), ``words`` on it, ``notes`` on the
    files, the ``pictures``, and the ``files`` to take away.
    """

    verdict: str
    words: str
    notes: list[str]
    pictures: Shown
    files: list[Path]


def try_pair(
    model: SuperFusion,
    device: torch.device,
    ir: Path,
    vi: Path,
    settings: Settings,
    folder: Path,
    start: Transform | None = None,
) -> Trial:
    """Register and fuse two files, near ``start`` if it is given, and write the results to ``folder``.

    Raises UserError, in one line that names files without their folders, for files that cannot be used.
    """
    try:
        pair = PairedFolders(ir, vi, reading=DEFAULT)[0]
        pipeline = Pipeline(
            model,
            settings.registrar if start is None else "none",
            settings.precision,
            device=device,
            search=settings.search,
            scale=settings.scale,
            rotation=settings.rotation,
            rig=start,
            ir_strength=settings.ir_strength,
        )
        measured = len(pair.infrared.thermal.values) == 1
        task = Task(
            "Reg&Fusion",
            folder,
            frame=settings.frame,
            keep_refused=settings.keep_refused,
            save_thermal=measured,
            sheets=0,
        )
        began = time.perf_counter()
        processed = process(pipeline, pair, task)
        processed.seconds = time.perf_counter() - began
        save(processed, task)
    except (UserError, ValueError) as error:
        raise UserError(without_folders(str(error), ir, vi)) from error
    verdict, words = _judge(processed)
    notes = [*pair.notes, pair.infrared.statement]
    return Trial(verdict, words, notes, _shown(processed), _to_take_away(folder))


def without_folders(text: str, *paths: Path) -> str:
    """Leave the names of the ``paths`` in a line, without the folders that the user has not chosen."""
    for path in paths:
        text = text.replace(str(path), path.name)
    return text


def _judge(processed: Processed) -> tuple[str, str]:
    registration = processed.registration
    transform, took = registration.transforms[0], f"{processed.seconds:.1f} s"
    if registration.accepted is None:
        return "not judged", f"this registrar does not judge its answer; {took}"
    confidence = f"confidence {registration.confidence.item():.2f}"
    if not processed.refused:
        return "accepted", f"{confidence}, {_SOURCES[transform.source]}; {took}"
    reason = why_refused(processed.ir[None], processed.pair.vi[None], transform)
    return "refused", f"{confidence}, below {LIMIT:g}: {reason}; {took}"


def _shown(processed: Processed) -> Shown:
    pictures = pictures_of(processed).reduced()
    flow = flow_colours(pictures.flow_ir2vi)
    if processed.vi_registered is not None:
        ir, vi = pictures_on_ir(processed)
        fixed, moved, fused = ir, processed.vi_registered, processed.fused
        before, after = gradient_overlay(ir, vi), gradient_overlay(ir, moved)
    else:
        fixed, moved, fused = pictures.vi, pictures.registered, pictures.fused
        before, after = gradient_overlay(pictures.ir, fixed), gradient_overlay(moved, fixed)
    return Shown(fixed, moved, before, after, flow, fused)


def _to_take_away(folder: Path) -> list[Path]:
    """Give the files names of their own, as those of one pair share theirs; a transform names its displacement."""
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        kind = path.parent.name
        files.append(path if kind == "transform" else path.rename(path.with_name(f"{kind}_{path.name}")))
    return files


def new_folder(root: Path) -> Path:
    """Make an empty folder for the results of one trial."""
    return Path(tempfile.mkdtemp(prefix="trial_", dir=root))
