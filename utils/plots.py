"""Pictures for people: overlays that show alignment, and captioned sheets."""

import cv2
import numpy as np
import torch
from torch import Tensor

from models.structure import gradient_magnitude
from utils.colour import luminance

_PURPLE = (0.75, 0.1, 1.0)
_CAPTION_HEIGHT = 26


def gradient_overlay(moving: Tensor, fixed: Tensor) -> Tensor:
    """The gradients of ``moving`` in purple on the grayed ``fixed`` image; both ``(C, H, W)`` in [0, 1].

    Returns ``(3, H, W)``. Where the two are aligned, purple lines lie on the edges below them (paper, Fig. 6).
    """
    gray = luminance(fixed[None]).expand(1, 3, -1, -1) * 0.8
    gradient = gradient_magnitude(luminance(moving[None]))
    strength = (gradient / torch.quantile(gradient, 0.98).clamp(min=0.02)).clamp(0, 1)
    purple = torch.tensor(_PURPLE, device=gray.device).view(1, 3, 1, 1)
    return (gray * (1 - strength) + purple * strength)[0]


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
