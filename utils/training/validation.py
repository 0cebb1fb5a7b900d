"""Score a network on a run's validation pairs, which are the same, with the same deformations, every time."""

import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from datasets.deformation import deform
from datasets.paired import Pair
from datasets.training_sets import Data, held_out, open_set
from models import BiSeNet, SuperFusion
from models.results import SMALLEST_SIDE
from utils.errors import UserError
from utils.evaluation.protocols import without_band
from utils.evaluation.segmentation import segment
from utils.figures.flows import flow_colours
from utils.figures.pair_sheet import class_sheet
from utils.figures.sheets import sheet
from utils.files.results import means
from utils.metrics.fusion import PAPER, fusion_metrics, gray_levels
from utils.metrics.registration import end_point_error
from utils.metrics.segmentation import confusion_matrix, mean_iou

_SHEETS = 2


def validation_pairs(data: Data, labels: bool) -> list[Pair]:
    """Read the pairs of the sets ``data.val`` and those held out of the training sets, at most ``val_pairs`` per set.

    They are evenly spaced over a set. Without ``labels`` each has a deformed IR image and its flow, which depend only
    on its name. Raises UserError for a pair that is too small for the networks.
    """
    chosen = []
    for name in dict.fromkeys([*data.val, *data.sets]):
        pairs = open_set(data, name, labels)
        first = 0 if name in data.val else len(pairs) - held_out(data, len(pairs))
        indices = range(first, len(pairs))
        count = min(len(indices), data.val_pairs)
        for i in range(count):
            pair = pairs[indices[i * len(indices) // count]].in_vi_frame()
            if min(pair.vi.shape[-2:]) < SMALLEST_SIDE:
                raise UserError(f"{name}: {pair.name} is too small to validate on (under {SMALLEST_SIDE} pixels)")
            chosen.append(pair if labels else deform(pair, seed=0, band=True))
    return chosen


@torch.inference_mode()
def registration_scores(model: SuperFusion, pairs: list[Pair], device: torch.device) -> dict[str, float]:
    """Average the EPE in pixels under both protocols of :mod:`utils.evaluation.protocols`.

    ``EPE_official`` is the EPE on whole pairs, ``EPE_band_free`` on pairs cropped to exclude the black band; NaN if all
    of them are too small for that.
    """
    errors = {"EPE_official": [], "EPE_band_free": []}
    for pair in pairs:
        for protocol, case in (("EPE_official", pair), ("EPE_band_free", without_band(pair))):
            if case is not None:
                flow = model.register(case.ir_warp[None].to(device), case.vi[None].to(device)).flow_ir2vi.cpu()
                error, valid = end_point_error(flow, case.flow[None])
                errors[protocol].append(float(error[valid > 0].mean()))
    return {protocol: statistics.fmean(values) if values else math.nan for protocol, values in errors.items()}


@torch.inference_mode()
def fusion_scores(model: SuperFusion, pairs: list[Pair], device: torch.device) -> dict[str, float]:
    """Average the paper's six metrics over the fused images of the aligned pairs."""
    rows = []
    for pair in pairs:
        fused = model.fuse(pair.ir[None].to(device), pair.vi[None].to(device))[0].cpu()
        rows.append(fusion_metrics(gray_levels(pair.ir), gray_levels(pair.vi), gray_levels(fused), PAPER))
    return means(rows, PAPER)


@torch.inference_mode()
def segmentation_scores(
    segmenter: BiSeNet, picture: Callable[[Tensor, Tensor], Tensor], pairs: list[Pair], device: torch.device
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Segment ``picture(ir, vi)`` ``(1, 1 or 3, H, W)`` of every pair; ``mIoU`` from the sum of the confusion matrices.

    Also returns, by name, a sheet ``(3, H', W')`` of each of the first pairs: the image, its classes, the label.
    """
    matrices, sheets = [], {}
    num_classes = segmenter.architecture["num_classes"]
    for pair in pairs:
        image = picture(pair.ir[None].to(device), pair.vi[None].to(device))[0]
        classes = segment(segmenter, image)
        matrices.append(confusion_matrix(classes, pair.label, num_classes))
        if len(sheets) < _SHEETS:
            sheets[pair.name] = class_sheet("segmented", image.cpu(), classes, pair.label, num_classes)
    return {"mIoU": float(mean_iou(sum(matrices)))}, sheets


@torch.inference_mode()
def registration_sheets(model: SuperFusion, pairs: list[Pair], device: torch.device) -> dict[str, Tensor]:
    """Draw, by name, a sheet ``(3, H', W')`` of each of the first pairs: the inputs, the flow, the results."""
    sheets = {}
    for pair in pairs[:_SHEETS]:
        result = model(pair.ir_warp[None].to(device), pair.vi[None].to(device))
        sheets[pair.name] = sheet(
            {
                "visible (VI)": pair.vi,
                "infrared (IR), deformed": pair.ir_warp,
                "flow": flow_colours(result.flow_ir2vi[0].cpu()),
                "IR registered": result.registered[0].cpu(),
                "fused": result.fused[0].cpu(),
            }
        )
    return sheets


@torch.inference_mode()
def fusion_sheets(model: SuperFusion, pairs: list[Pair], device: torch.device) -> dict[str, Tensor]:
    """Draw, by name, a sheet ``(3, H', W')`` of each of the first aligned pairs: the inputs, the fused image."""
    sheets = {}
    for pair in pairs[:_SHEETS]:
        fused = model.fuse(pair.ir[None].to(device), pair.vi[None].to(device))[0].cpu()
        sheets[pair.name] = sheet({"visible (VI)": pair.vi, "infrared (IR)": pair.ir, "fused": fused})
    return sheets
