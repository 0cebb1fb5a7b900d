"""Pictures for people: overlays that show alignment, flows, and captioned sheets.

Images are float32 ``(C, H, W)`` in [0, 1]; flows are ``(2, H, W)`` in pixels (convention: :mod:`models.warping`).
"""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.structural_inputs import gradient_magnitude
from models.warping import pixel_grid, valid_mask
from utils.classes import CLASS_COLOURS
from utils.colour import luminance

_PURPLE = (0.75, 0.1, 1.0)
_CAPTION_HEIGHT = 26
# Middlebury's wheel (Baker et al., IJCV, 2011): red, yellow, green, cyan, blue, magenta at these of 55 steps, clockwise
# from the right, linear in between.
_WHEEL = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))
_WHEEL_KNOTS = (0, 15, 21, 25, 36, 49)
_WHEEL_STEPS = 55
_BOX_COLOURS = ((0.95, 0.15, 0.15), (0.1, 0.8, 0.2), (0.2, 0.45, 1.0), (1.0, 0.75, 0.0))
_GAP = 4  # pixels between the parts of a comparison


def gradient_overlay(moving: Tensor, fixed: Tensor) -> Tensor:
    """The gradients of ``moving`` in purple on the grayed ``fixed`` image; both ``(C, H, W)`` in [0, 1].

    Returns ``(3, H, W)``. Where the two are aligned, purple lines lie on the edges below them (paper, Fig. 6).
    """
    gray = luminance(fixed[None]).expand(1, 3, -1, -1) * 0.8
    gradient = gradient_magnitude(luminance(moving[None]))
    strength = (gradient / torch.quantile(gradient, 0.98).clamp(min=0.02)).clamp(0, 1)
    purple = torch.tensor(_PURPLE, device=gray.device).view(1, 3, 1, 1)
    return (gray * (1 - strength) + purple * strength)[0]


def checkerboard(first: Tensor, second: Tensor, squares: int = 8) -> Tensor:
    """The two images in turn, ``squares`` of them on the shorter side: aligned edges run on from square to square.

    Both are ``(1 or 3, H, W)``; returns ``(3, H, W)``, the top left square from ``first``.
    """
    height, width = first.shape[-2:]
    row, column = (torch.arange(side, device=first.device) * squares // min(height, width) for side in (height, width))
    odd = (row[:, None] + column) % 2
    return torch.where(odd > 0, second.expand(3, -1, -1), first.expand(3, -1, -1))


def flow_colours(flow: Tensor, reach: float | None = None) -> Tensor:
    """A flow in the colours of Middlebury's wheel: hue for direction, saturation for length. Returns ``(3, H, W)``.

    Full saturation stands for ``reach`` pixels and more, by default the longest vector; give the flows that are to be
    compared the same. The wheel in the corner is the key, its radius the number of pixels written there.
    """
    if reach is None:
        reach = max(float(flow.norm(dim=0).max()), 1e-6)
    picture = _wheel_colours(flow.cpu().float(), reach)
    key = _wheel_key(max(min(flow.shape[-2:]) // 10, 4), reach)
    picture[:, -key.shape[1] :, -key.shape[2] :] = key
    return picture


def _wheel_key(radius: int, reach: float) -> Tensor:
    """A disc of the wheel on white, its ``radius`` standing for a flow of ``reach`` pixels, and that number below."""
    offsets = (pixel_grid(2 * radius + 1, 2 * radius + 1, like=torch.zeros(1))[0] - radius) / radius
    disc = torch.where(offsets.norm(dim=0) <= 1, _wheel_colours(offsets * reach, reach), torch.ones(3, 1, 1))
    text = f"{reach:.3g} px"
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)
    strip = np.full((radius // 2 + 4, 2 * radius + 1, 3), 255, np.uint8)
    scale = min(1.8 * radius / text_width, radius / 50)
    left = int((strip.shape[1] - scale * text_width) / 2)
    cv2.putText(strip, text, (left, radius // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
    return torch.cat((disc, torch.from_numpy(strip).permute(2, 0, 1).float() / 255), dim=1)


def _wheel_colours(flow: Tensor, reach: float) -> Tensor:
    position = torch.atan2(flow[1], flow[0]).numpy() / (2 * math.pi) * _WHEEL_STEPS
    hue = np.stack([np.interp(position, _WHEEL_KNOTS, channel, period=_WHEEL_STEPS) for channel in zip(*_WHEEL)])
    saturation = (flow.norm(dim=0, keepdim=True) / reach).clamp(max=1)
    return 1 - saturation * (1 - torch.from_numpy(hue).float())


def warped_grid(flow: Tensor, step: int = 24) -> Tensor:
    """What a warp by ``flow`` makes of a square grid with a line every ``step`` pixels: ``(3, H, W)``.

    Grey is where the warp samples outside the source.
    """
    height, width = flow.shape[-2:]
    position = pixel_grid(height, width, like=flow)[0] + flow
    # Lines drawn from the distance to the nearest one stay thin and smooth, however the grid is stretched.
    distance = ((position + step / 2) % step - step / 2).abs()
    slope = torch.stack([torch.stack(torch.gradient(axis)).norm(dim=0) for axis in position])
    line = (1.2 - distance / slope.clamp(min=1e-3)).clamp(0, 1).amax(0, keepdim=True)
    return torch.where(valid_mask(flow[None])[0] > 0, 1 - 0.9 * line, 0.75).expand(3, -1, -1)


def class_overlay(image: Tensor, classes: Tensor) -> Tensor:
    """A class map ``(H, W)`` in ``CLASS_COLOURS`` over the grayed ``image`` ``(1 or 3, H, W)``: ``(3, H, W)``.

    Class 0, the background, leaves the image as it is; outlines have the full colour.
    """
    gray = luminance(image[None])[0].cpu().expand(3, -1, -1)
    colours = (torch.from_numpy(CLASS_COLOURS).float() / 255)[classes].permute(2, 0, 1)
    padded = F.pad(classes[None].float(), (1, 1, 1, 1), mode="replicate")[None]
    outline = (F.max_pool2d(padded, 3, stride=1) > -F.max_pool2d(-padded, 3, stride=1))[0]
    return torch.where(classes > 0, torch.where(outline, colours, 0.45 * gray + 0.55 * colours), gray)


def legend(entries: dict[int, str], width: int) -> Tensor:
    """The names of classes (class -> name) beside their colours, in as many lines as they need: ``(3, h, width)``.

    Class 0 has a white field, since :func:`class_overlay` does not colour it.
    """
    strips, left = [], width
    for index, name in entries.items():
        (text_width, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
        scale = 0.55 * min(1.0, (width - 34) / text_width)
        text_width = int(text_width * scale / 0.55)
        if left + 34 + text_width > width:
            strips.append(np.full((_CAPTION_HEIGHT, width, 3), 255, np.uint8))
            left = 0
        colour = CLASS_COLOURS[index].tolist() if index else (255, 255, 255)
        cv2.rectangle(strips[-1], (left + 6, 6), (left + 22, 20), colour, cv2.FILLED)
        cv2.rectangle(strips[-1], (left + 6, 6), (left + 22, 20), (20, 20, 20), 1)
        cv2.putText(strips[-1], name, (left + 28, 18), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
        left += 28 + text_width + 16
    return torch.from_numpy(np.concatenate(strips)).permute(2, 0, 1).float() / 255


def comparison(images: dict[str, Tensor], boxes: list[tuple[int, int, int, int]], columns: int = 4) -> Tensor:
    """Captioned ``images`` of one size (caption -> ``(1 or 3, H, W)``), below each its enlarged crops, as one image.

    ``boxes`` are (left, top, width, height) in pixels, drawn in the images in the colours of the crops' frames.
    Raises ValueError for a box that is not wholly inside.
    """
    height, width = next(iter(images.values())).shape[-2:]
    for left, top, w, h in boxes:
        if min(left, top, w - 1, h - 1) < 0 or left + w > width or top + h > height:
            raise ValueError(f"box {(left, top, w, h)} does not lie inside images of {width}x{height} pixels")
    panels = {caption: _with_crops(image.expand(3, -1, -1), boxes) for caption, image in images.items()}
    return sheet(panels, min(columns, len(panels)))


def salient_boxes(ir: Tensor, vi: Tensor) -> list[tuple[int, int, int, int]]:
    """Two boxes for :func:`comparison`, a quarter of the sides each: where IR, and then VI, has most gradient."""
    height, width = vi.shape[-2] // 4, vi.shape[-1] // 4
    boxes = []
    for image in (ir, vi):
        energy = F.avg_pool2d(gradient_magnitude(luminance(image[None])), (height, width), stride=1)[0, 0]
        for left, top, w, h in boxes:  # the second box keeps clear of the first
            energy[max(top - h, 0) : top + h, max(left - w, 0) : left + w] = -1
        top, left = divmod(int(energy.argmax()), energy.shape[1])
        boxes.append((left, top, width, height))
    return boxes


def _with_crops(image: Tensor, boxes: list[tuple[int, int, int, int]]) -> Tensor:
    """``image`` with ``boxes`` drawn in, over a row of their crops, all of one height, that is as wide as the image."""
    width = image.shape[2]
    picture = image.cpu().float().permute(1, 2, 0).numpy().copy(order="C")
    colours = [_BOX_COLOURS[i % len(_BOX_COLOURS)] for i in range(len(boxes))]
    height = int((width - _GAP * (len(boxes) - 1)) / sum(w / h for _, _, w, h in boxes))
    row = np.ones((height, width, 3), np.float32)
    edges = np.cumsum([0] + [w / h * height + _GAP for _, _, w, h in boxes]).round().astype(int)
    for (left, top, w, h), start, end, colour in zip(boxes, edges, edges[1:] - _GAP, colours):
        crop = cv2.resize(picture[top : top + h, left : left + w], (end - start, height), interpolation=cv2.INTER_CUBIC)
        row[:, start:end] = cv2.rectangle(crop, (1, 1), (end - start - 2, height - 2), colour, 3)
    for (left, top, w, h), colour in zip(boxes, colours):
        cv2.rectangle(picture, (left, top), (left + w - 1, top + h - 1), colour, 2)
    stacked = np.concatenate((picture, np.ones((_GAP, width, 3), np.float32), row))
    framed = np.pad(stacked, ((0, 2 * _GAP), (_GAP, _GAP), (0, 0)), constant_values=1)
    return torch.from_numpy(framed).permute(2, 0, 1).clamp(0, 1)


def sheet(panels: dict[str, Tensor], columns: int = 3) -> Tensor:
    """Captioned ``panels`` (caption -> ``(1 or 3, H, W)`` in [0, 1], one size) as one image, row by row."""
    cells = [_captioned(caption, panel.expand(3, -1, -1)) for caption, panel in panels.items()]
    cells += [torch.ones_like(cells[0])] * (-len(cells) % columns)
    rows = [torch.cat(cells[i : i + columns], dim=2) for i in range(0, len(cells), columns)]
    return torch.cat(rows, dim=1)


def _captioned(caption: str, panel: Tensor) -> Tensor:
    width = panel.shape[2]
    strip = np.full((_CAPTION_HEIGHT, width, 3), 255, np.uint8)
    (text_width, _), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
    scale = 0.55 * min(1.0, (width - 10) / text_width)
    cv2.putText(strip, caption, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
    return torch.cat((torch.from_numpy(strip).permute(2, 0, 1).float() / 255, panel.cpu().float()), dim=1)
