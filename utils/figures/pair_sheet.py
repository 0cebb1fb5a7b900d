"""The sheet of one pair: the inputs and the results of registration, fusion and segmentation, side by side."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.warping import resize_flow
from utils.classes import NO_LABEL, class_names
from utils.figures.flows import flow_colours, warped_grid
from utils.figures.overlays import checkerboard, class_overlay, gradient_overlay
from utils.figures.sheets import legend, sheet

# The largest longer side of a panel in pixels, about that of a screen.
PANEL_SIDE = 1280

CAPTIONS = {"vi": "visible (VI)", "ir": "infrared (IR) as given", "fused": "fused"}


@dataclass
class Pictures:
    """The content of a sheet: images ``(1 or 3, H, W)`` in [0, 1], the flow ``(2, H, W)``, class maps ``(H, W)``.

    ``ir`` is the image as given, in VI's frame, ``aligned`` the undeformed one of a test set; ``verdict`` says whether
    the registration was accepted.
    """

    vi: Tensor
    ir: Tensor
    aligned: Tensor | None = None
    registered: Tensor | None = None
    flow_ir2vi: Tensor | None = None
    fused: Tensor | None = None
    classes: Tensor | None = None
    label: Tensor | None = None
    verdict: str = ""

    def reduced(self) -> "Pictures":
        """Return a copy whose longer side is at most ``PANEL_SIDE``."""
        height, width = self.vi.shape[-2:]
        scale = PANEL_SIDE / max(height, width)
        if scale >= 1:
            return self
        size = [max(1, round(side * scale)) for side in (height, width)]
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        reduced: dict[str, Any] = {name: _reduce(x, size) for name, x in given.items() if isinstance(x, Tensor)}
        return replace(self, **reduced)


def _reduce(x: Tensor, size: list[int]) -> Tensor:
    if x.ndim == 2:
        return F.interpolate(x[None, None].float(), size, mode="nearest-exact")[0, 0].to(x.dtype)
    return resize_flow(x[None], size)[0] if len(x) == 2 else F.interpolate(x[None], size, mode="area")[0]


def pair_sheet(pictures: Pictures, segmented: str | None = None, num_classes: int = 0) -> Tensor:
    """Draw the sheet of one pair, ``(3, H', W')``.

    With ``classes``, of ``num_classes``, ``segmented`` names the segmented picture ("vi", "ir" or "fused").
    """
    pictures = pictures.reduced()
    panels = {CAPTIONS["vi"]: pictures.vi, CAPTIONS["ir"]: pictures.ir}
    if pictures.fused is not None:
        panels[CAPTIONS["fused"]] = pictures.fused
    if pictures.registered is not None:
        panels[f"IR registered ({pictures.verdict})" if pictures.verdict else "IR registered"] = pictures.registered
        below, where = (pictures.vi, "VI") if pictures.aligned is None else (pictures.aligned, "aligned IR")
        panels[f"before: IR gradients on {where}"] = gradient_overlay(pictures.ir, below)
        panels[f"after: IR gradients on {where}"] = gradient_overlay(pictures.registered, below)
        panels["checkerboard of VI and registered IR"] = checkerboard(pictures.vi, pictures.registered)
        panels["flow: hue for direction, saturation for length"] = flow_colours(pictures.flow_ir2vi)
        panels["flow: what it makes of a grid"] = warped_grid(pictures.flow_ir2vi)
    if pictures.classes is None:
        return sheet(panels)
    image = getattr(pictures, segmented)
    return class_sheet(CAPTIONS[segmented], image, pictures.classes, pictures.label, num_classes, panels)


def ir_frame_sheet(ir: Tensor, vi: Tensor, registered: Tensor, fused: Tensor | None, verdict: str = "") -> Tensor:
    """Draw the sheet of a pair on IR's frame: ``ir`` ``(1 or 3, H, W)``, ``vi`` as given in that frame, and the
    ``registered`` VI; returns ``(3, H', W')``.
    """
    panels = {"infrared (IR)": ir, "visible (VI) as given": vi}
    panels[f"VI registered ({verdict})" if verdict else "VI registered"] = registered
    panels["before: IR gradients on VI"] = gradient_overlay(ir, vi)
    panels["after: IR gradients on VI"] = gradient_overlay(ir, registered)
    panels["checkerboard of IR and registered VI"] = checkerboard(ir, registered)
    if fused is not None:
        panels[CAPTIONS["fused"]] = fused
    scale = min(1.0, PANEL_SIDE / max(ir.shape[-2:]))
    size = [max(1, round(side * scale)) for side in ir.shape[-2:]]
    return sheet({caption: _reduce(panel, size) for caption, panel in panels.items()})


def class_sheet(
    caption: str,
    image: Tensor,
    classes: Tensor,
    label: Tensor | None,
    num_classes: int,
    beside: dict[str, Tensor] | None = None,
) -> Tensor:
    """Draw a sheet of ``image`` ``(1 or 3, H, W)``, the same with ``classes`` and with ``label``, if any, and a legend.

    ``beside`` holds captioned images that come first. The legend names the classes present. Returns ``(3, H', W')``.
    """
    panels = (beside or {}) | {caption: image, "classes found": class_overlay(image, classes)}
    present = classes.unique()
    if label is not None:
        panels["label"] = class_overlay(image, label)
        present = torch.cat((present, label.unique())).unique()
    picture = sheet(panels, columns=2 if len(panels) % 3 == 1 else min(3, len(panels)))
    names = class_names(num_classes)
    entries = {index: "no label" if index == NO_LABEL else names[index] for index in present.tolist()}
    return torch.cat((picture, legend(entries, picture.shape[-1])), dim=1)
