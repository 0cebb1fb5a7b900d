"""Segment images, write class maps, and score them in a table.

A class map is ``(H, W)`` int64 with values 0..num_classes - 1, in a label also 255 for no label.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from datasets.paired import Pair, PairSet, read_label
from models.results import SMALLEST_SIDE
from utils.classes import CLASS_COLOURS, class_names
from utils.colour import luminance
from utils.errors import UserError
from utils.files.images import read_result
from utils.files.writing import write_file
from utils.metrics.segmentation import confusion_matrix, iou_per_class, mean_iou


@torch.no_grad()
def predict(segmenter: nn.Module, image: Tensor) -> Tensor:
    """Predict the class of every pixel of ``image`` ``(B, 1 or 3, H, W)`` in [0, 1]: ``(B, H, W)`` int64.

    ``segmenter`` is a :class:`models.BiSeNet` on the image's device, in eval mode; a gray image is expanded to three
    channels. Raises ValueError if a side has fewer than 32 pixels.
    """
    if min(image.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(f"images are {tuple(image.shape[-2:])}; both sides must have at least {SMALLEST_SIDE} pixels")
    return segmenter(image.expand(-1, 3, -1, -1))[0].argmax(dim=1)


def segment(segmenter: nn.Module, image: Tensor) -> Tensor:
    """Segment one ``image`` ``(1 or 3, H, W)`` in [0, 1], rounded to 8 bits; returns ``(H, W)`` on the CPU.

    The rounding makes the classes of a fused image equal to those of its 8-bit file.
    """
    stored = (image.clamp(0, 1) * 255).round() / 255
    return predict(segmenter, stored[None].to(next(segmenter.parameters()).device))[0].cpu()


def gray(image: Tensor) -> Tensor:
    """Return the luminance ``(1, H, W)`` of ``image`` ``(1 or 3, H, W)``, the segmenter's input for infrared images."""
    return luminance(image[None])[0]


def write_class_map(path: str | Path, classes: Tensor) -> None:
    """Write a class map as an 8-bit PNG with a colour palette, whose indices are the classes."""
    picture = Image.fromarray(classes.to(torch.uint8).numpy())
    picture.putpalette(CLASS_COLOURS.tobytes())  # converts gray to palette indices
    write_file(path, lambda file: picture.save(file, format="PNG"))


def iou_scores(matrices: Sequence[Tensor]) -> dict[str, float | None]:
    """Compute the IoU in [0, 1] per class name, then "mIoU", from the sum of confusion matrices ``(C, C)``.

    None stands for a class that is neither labelled nor predicted.
    """
    matrix = torch.stack(list(matrices)).sum(dim=0)
    values = [*iou_per_class(matrix).tolist(), mean_iou(matrix).item()]
    names = [*class_names(len(matrix)), "mIoU"]
    return {name: None if math.isnan(value) else value for name, value in zip(names, values)}


# Returns the class map of a pair, or None where the method has no file for it.
Source = Callable[[Pair], Tensor | None]

INPUTS: dict[str, Callable[[Pair], Tensor]] = {"visible": lambda pair: pair.vi, "infrared": lambda pair: gray(pair.ir)}


def class_maps(
    methods: dict[str, dict[str, dict[str, Path]]], segmenter: nn.Module | None, num_classes: int
) -> dict[str, Source]:
    """Collect the sources of class maps for the segmentation table, by row name.

    With a ``segmenter`` these are its predictions for the visible, the infrared and each method's fused images; in
    addition, the class maps in the methods' folders. ``methods`` maps method, kind ("fused", "seg", others) and image
    name to a file.
    """
    sources: dict[str, Source] = {}
    if segmenter is not None:
        sources |= {row: lambda pair, image=image: segment(segmenter, image(pair)) for row, image in INPUTS.items()}
    for method, files in methods.items():
        if segmenter is not None and "fused" in files:
            sources[method] = _from_files(files["fused"], lambda path: segment(segmenter, read_result(path)[0]))
        if "seg" in files:
            row = f"{method} (seg/)" if method in sources else method
            sources[row] = _from_files(files["seg"], lambda path: read_label(path, num_classes))
    return sources


def _from_files(files: dict[str, Path], read: Callable[[Path], Tensor]) -> Source:
    return lambda pair: read(files[pair.name]) if pair.name in files else None


def score_segmentations(pairs: PairSet, sources: dict[str, Source], num_classes: int) -> tuple[list[dict], list[str]]:
    """Score class maps against the labels of ``pairs``, one confusion matrix over all pairs for each of ``sources``.

    Returns rows ``{"method": key of sources, "images": count, class: IoU, ..., "mIoU": mean}`` for
    :mod:`utils.figures.tables`, and a line for each class map that could not be scored.
    """
    matrices: dict[str, list[Tensor]] = {method: [] for method in sources}
    problems = []
    if not sources:
        return [], problems
    for index, name in enumerate(tqdm(pairs.names, unit="pair", desc="segmentation", disable=None)):
        try:
            pair = pairs[index].in_vi_frame()
        except (UserError, ValueError) as error:
            problems.append(str(error) if isinstance(error, UserError) else f"{name}: {error}")
            continue
        for method, source in sources.items():
            try:
                classes = source(pair)
                if classes is not None:
                    matrices[method].append(confusion_matrix(classes, pair.label, num_classes))
            except UserError as error:
                problems.append(str(error))
            except ValueError as error:
                problems.append(f"{method}, {name}: {error}")
    rows = [{"method": name, "images": len(scored)} | iou_scores(scored) for name, scored in matrices.items() if scored]
    return rows, problems
