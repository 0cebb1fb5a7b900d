"""Sheets: captioned pictures side by side, their enlarged crops, and legends of classes.

Pictures are float32 ``(C, H, W)`` in [0, 1].
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import sobel
from torch import Tensor

from utils.classes import CLASS_COLOURS
from utils.colour import luminance

_CAPTION_HEIGHT = 26
_BOX_COLOURS = ((0.95, 0.15, 0.15), (0.1, 0.8, 0.2), (0.2, 0.45, 1.0), (1.0, 0.75, 0.0))
_GAP = 4  # pixels between the parts of a comparison


def sheet(panels: dict[str, Tensor], columns: int = 3) -> Tensor:
    """Arrange captioned ``panels`` (caption -> ``(1 or 3, H, W)`` in [0, 1], one size) in one image, row by row."""
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


def legend(entries: dict[int, str], width: int) -> Tensor:
    """Draw the names of classes (class -> name) beside their colours, with line breaks: ``(3, h, width)``.

    Class 0 has a white field, since :func:`utils.figures.overlays.class_overlay` does not colour it.
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
    """Draw captioned ``images`` of one size (caption -> ``(1 or 3, H, W)``), each above its enlarged crops.

    ``boxes`` are the crops as (left, top, width, height) in pixels; each is drawn in the image in the colour of its
    crop's frame. Raises ValueError for a box that is not wholly inside.
    """
    height, width = next(iter(images.values())).shape[-2:]
    for left, top, w, h in boxes:
        if min(left, top, w - 1, h - 1) < 0 or left + w > width or top + h > height:
            raise ValueError(f"box {(left, top, w, h)} does not lie inside images of {width}x{height} pixels")
    panels = {caption: _with_crops(image.expand(3, -1, -1), boxes) for caption, image in images.items()}
    return sheet(panels, min(columns, len(panels)))


def _with_crops(image: Tensor, boxes: list[tuple[int, int, int, int]]) -> Tensor:
    """Draw ``boxes`` in ``image``, and below it a row of their crops, of equal height, as wide as the image."""
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


def salient_boxes(ir: Tensor, vi: Tensor) -> list[tuple[int, int, int, int]]:
    """Choose two boxes for :func:`comparison`, of a quarter of the sides: where IR, and where VI, has most gradient."""
    height, width = vi.shape[-2] // 4, vi.shape[-1] // 4
    boxes = []
    for image in (ir, vi):
        energy = F.avg_pool2d(sobel(luminance(image[None]), eps=1e-12), (height, width), stride=1)[0, 0]
        for left, top, w, h in boxes:  # the second box must not overlap the first
            energy[max(top - h, 0) : top + h, max(left - w, 0) : left + w] = -1
        top, left = divmod(int(energy.argmax()), energy.shape[1])
        boxes.append((left, top, width, height))
    return boxes
