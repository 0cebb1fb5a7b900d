"""The pairs of ``test.py``: what its mode computes of one (:func:`process`), what is written of it (:func:`save`), and
both for all pairs, while others are read and written (:func:`process_all`).
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.paired import Pair, PairSet
from models import Pipeline
from models.registration import Transform
from models.registration.measurements import warp_values
from models.registration.registry import registered
from models.registration.rig import check_sizes
from models.results import Registration
from models.warping import pixel_grid, resize
from utils.colour import luminance
from utils.errors import MissingPackage, UserError
from utils.evaluation.segmentation import write_class_map
from utils.figures.pair_sheet import Pictures, ir_frame_sheet, pair_sheet
from utils.files.images import write_image
from utils.files.values import write_values
from utils.files.writing import write_file
from utils.overlap import Behind, ahead

ALIGNED = ("Fusion", "Seg")  # the modes that take a pair as aligned but for the resolution
FRAMES = ("vi", "ir")
# Drawing and compressing take longer than computing on a GPU does; a CPU is needed for computing.
_WRITERS = max(1, min(4, (os.cpu_count() or 1) // 2))


@dataclass(frozen=True)
class Task:
    """What to do with each pair, and where its results go: options of ``test.py`` by their names.

    ``frame``: on which image's frame the results lie. ``sheets``: for how many pairs a sheet is drawn.
    """

    mode: str
    out: Path
    transform: Path | None = None
    frame: str = "vi"
    seg_input: str = "fused"
    keep_refused: bool = False
    save_flow: bool = False
    save_thermal: bool = False
    thermal_interpolation: str = "bilinear"
    sheets: float = math.inf


@dataclass
class Processed:
    """The results of one pair, on the CPU; ``ir`` is the IR image of it that was used.

    ``fused`` lies on the frame that the task asks for; ``vi_registered`` ``(3, h, w)``, VI on IR's frame, is there if
    that is IR's. ``scores`` are of :func:`utils.evaluation.protocols.score`; computing took so many ``seconds``.
    """

    pair: Pair
    ir: Tensor  # (C, h, w)
    registration: Registration | None = None  # a batch of one, of IR to VI
    fused: Tensor | None = None  # (3, H, W)
    classes: Tensor | None = None  # (H, W), of num_classes
    num_classes: int = 0
    vi_registered: Tensor | None = None
    scores: dict | None = None
    seconds: float = 0.0

    @property
    def missing(self) -> Tensor | None:
        """The pixels ``(1, h, w)`` bool of ``ir`` that have no value; None if there are none."""
        return self.pair.missing if self.pair.ir_warp is None else None

    @property
    def refused(self) -> bool:
        """True if the registrar does not trust its answer."""
        decided = self.registration is not None and self.registration.accepted is not None
        return decided and not bool(self.registration.accepted[0])


def process_all(
    pairs: PairSet,
    compute: Callable[[Pair], "Processed"],
    write: Callable[["Processed", int], object],
    failures: list[str],
) -> Iterator["Processed"]:
    """Yield what ``compute`` makes of each pair, in order.

    Meanwhile one thread reads the next pairs and others write those before, by ``write(processed, number)``. Of a pair
    that cannot be read, computed or written there is a line in ``failures`` at the end. A package that is missing would
    be missing for all, and ends the run.
    """
    writing: list[Future] = []
    with Behind(_WRITERS, depth=_WRITERS + 1) as behind:
        for name, pair in zip(pairs.names, ahead(read_all(pairs))):
            try:
                if isinstance(pair, UserError):
                    raise pair
                processed = compute(pair)
            except MissingPackage:
                raise
            except (UserError, ValueError) as error:
                failures.append(str(error) if isinstance(error, UserError) else f"{name}: {error}")
                continue
            writing.append(behind(write, processed, len(writing)))
            yield processed
    failures += [str(future.exception()) for future in writing if future.exception()]


def read_all(pairs: PairSet) -> Iterator[Pair | UserError]:
    """Read the pairs in order; in the place of one that cannot be read there is the error."""
    for index, name in enumerate(pairs.names):
        try:
            yield pairs[index]
        except (UserError, ValueError) as error:
            yield error if isinstance(error, UserError) else UserError(f"{name}: {error}")


@torch.inference_mode()
def process(pipeline: Pipeline, pair: Pair, task: Task) -> Processed:
    """Run the mode on one pair. The modes Fusion and Seg take it as aligned but for the resolution.

    Raises UserError for a transform that is not there, ValueError for images that do not fit it.
    """
    aligned = task.mode in ALIGNED
    pair = pair.in_vi_frame() if aligned else pair
    processed = Processed(pair, pair.ir if aligned or pair.ir_warp is None else pair.ir_warp)
    ir, vi = processed.ir[None].to(pipeline.device), pair.vi[None].to(pipeline.device)
    missing = None if processed.missing is None else processed.missing[None].to(pipeline.device)
    if aligned:
        if task.mode == "Fusion" or task.seg_input == "fused":
            processed.fused = pipeline.fuse(ir, vi, missing)[0].cpu()
        return processed
    if task.transform is None:
        registration = pipeline.register(ir, vi, missing)
    else:
        transform = _given_transform(task.transform, pair.name)
        check_sizes(transform, ir, vi)
        registration = registered(ir, [transform])
        registration = registration if missing is None else registration.without(missing)
    processed.registration = registration.cpu()
    if processed.refused and not task.keep_refused:
        return processed
    if task.frame == "ir":
        reverse = pipeline.reverse(vi, registration)
        processed.vi_registered = reverse.registered[0].cpu()
        if task.mode == "Reg&Fusion":
            processed.fused = pipeline.fuse_on_ir(ir, vi, reverse, missing)[0].cpu()
    elif task.mode == "Reg&Fusion":
        processed.fused = pipeline.fuse_registered(ir, vi, registration).fused[0].cpu()
    return processed


def _given_transform(path: Path, name: str) -> Transform:
    """Load the transform of a file, or that of the pair ``name`` of a folder."""
    path = path / f"{name}.json" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such transform; --transform FILE applies one map to all pairs")
    return Transform.load(path)


def segmented(processed: Processed, seg_input: str) -> Tensor:
    """Return the image ``(1 or 3, H, W)`` that mode Seg segments."""
    return {"fused": processed.fused, "vi": processed.pair.vi, "ir": luminance(processed.ir[None])[0]}[seg_input]


def save(processed: Processed, task: Task, number: int = 0) -> None:
    """Write what :func:`process` made of one pair, the ``number``-th, and if the task has a sheet for it, a sheet that
    shows it at a glance.

    Of a refused pair only the transform and the sheet are written, and images of an earlier run are removed.
    """
    name, out, registration = processed.pair.name, task.out, processed.registration
    written = task.keep_refused or not processed.refused
    images = {"fused": processed.fused}
    if registration is not None:
        images["registered"] = registration.registered[0] if written and task.frame == "vi" else None
        images["vi_registered"] = processed.vi_registered
        if registration.transforms is not None:
            registration.transforms[0].save(out / "transform" / f"{name}.json")
        if task.save_flow:
            _save_flow(out / "flow" / f"{name}.npz", registration)
    for kind, image in images.items():
        path = out / kind / f"{name}.png"
        if image is not None:
            write_image(path, image)
        elif processed.refused:
            path.unlink(missing_ok=True)
    if task.save_thermal:
        path = out / "thermal" / f"{name}.tiff"
        if written:
            write_values(path, _measured(processed, task))
        else:
            path.unlink(missing_ok=True)
    if processed.classes is not None:
        write_class_map(out / "seg" / f"{name}.png", processed.classes)
    if number < task.sheets:
        write_image(out / "sheets" / f"{name}.png", _sheet(processed, task))


def _measured(processed: Processed, task: Task) -> Tensor:
    """Return the IR file's own values, of a colour picture their luminance, on the frame that the task asks for."""
    values = luminance(processed.pair.infrared.thermal.values[None])[0]
    if task.frame == "ir":
        return values
    return warp_values(values, processed.registration.transforms[0], task.thermal_interpolation)


def _save_flow(path: Path, registration: Registration) -> None:
    flow, valid = registration.flow_ir2vi[0], registration.valid[0]
    positions = flow + pixel_grid(*flow.shape[-2:], like=flow)[0]
    write_file(
        path,
        lambda file: np.savez_compressed(
            file, flow_ir2vi=flow.numpy(), valid=valid.numpy(), map_vi2ir=positions.numpy()
        ),
    )


def pictures_of(processed: Processed) -> Pictures:
    """Return the pictures of a pair on VI's frame: IR's frame fitted to VI's, and the flow between those."""
    pair, registration = processed.pair, processed.registration
    size = pair.vi.shape[-2:]
    ir = _without_missing(processed)
    verdict = ""
    if registration is not None and registration.accepted is not None:
        judged = "REFUSED" if processed.refused else "accepted"
        verdict = f"{judged}, confidence {registration.confidence.item():.2f}"
    ir = ir if ir.shape[-2:] == size else resize(ir[None], size)[0]
    pictures = Pictures(pair.vi, ir, fused=processed.fused, classes=processed.classes, verdict=verdict)
    if registration is not None:
        flow = registration.flow_ir2vi[0]
        grid = pixel_grid(*flow.shape[-2:], like=flow)[0]
        ratio = flow.new_tensor([size[1] / processed.ir.shape[-1], size[0] / processed.ir.shape[-2]]).view(2, 1, 1)
        registered_ir, flow_of_frames = registration.registered[0], (flow + grid + 0.5) * ratio - 0.5 - grid
        pictures = replace(pictures, registered=registered_ir, flow_ir2vi=flow_of_frames)
    if pair.ir_warp is not None:
        pictures.aligned = pair.ir
    if processed.classes is not None:
        pictures.label = pair.label
    return pictures


def pictures_on_ir(processed: Processed) -> tuple[Tensor, Tensor]:
    """Return IR and, in IR's frame, VI as given: ``(1 or 3, h, w)`` each."""
    ir = _without_missing(processed)
    return ir, resize(processed.pair.vi[None], ir.shape[-2:])[0]


def _without_missing(processed: Processed) -> Tensor:
    return processed.ir if processed.missing is None else processed.ir.masked_fill(processed.missing, 0)


def _sheet(processed: Processed, task: Task) -> Tensor:
    pictures = pictures_of(processed)
    if processed.vi_registered is not None:
        on_ir = pictures_on_ir(processed)
        return ir_frame_sheet(*on_ir, processed.vi_registered, processed.fused, pictures.verdict)
    return pair_sheet(pictures, task.seg_input, processed.num_classes)
