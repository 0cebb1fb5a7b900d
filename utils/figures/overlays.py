"""Overlays of two images: gradients and a checkerboard, which show alignment, and coloured classes.

Images are float32 ``(C, H, W)`` in [0, 1].
"""

import torch
import torch.nn.functional as F
from kornia.filters import sobel
from torch import Tensor

from utils.classes import CLASS_COLOURS
from utils.colour import luminance

_PURPLE = (0.75, 0.1, 1.0)


def gradient_overlay(moving: Tensor, fixed: Tensor) -> Tensor:
    """Draw the gradients of ``moving`` in purple over the gray ``fixed`` image; both ``(C, H, W)`` in [0, 1].

    Returns ``(3, H, W)``. Where the images are aligned, purple lines coincide with the edges of ``fixed`` (paper,
    Fig. 6).
    """
    gray = luminance(fixed[None]).expand(1, 3, -1, -1) * 0.8
    gradient = sobel(luminance(moving[None]), eps=1e-12)
    strength = (gradient / torch.quantile(gradient, 0.98).clamp(min=0.02)).clamp(0, 1)
    purple = torch.tensor(_PURPLE, device=gray.device).view(1, 3, 1, 1)
    return (gray * (1 - strength) + purple * strength)[0]


def checkerboard(first: Tensor, second: Tensor, squares: int = 8) -> Tensor:
    """Alternate two images in a checkerboard of ``squares`` on the shorter side; aligned edges continue across squares.

    Both are ``(1 or 3, H, W)``; returns ``(3, H, W)``, the top left square from ``first``.
    """
    height, width = first.shape[-2:]
    row, column = (torch.arange(side, device=first.device) * squares // min(height, width) for side in (height, width))
    odd = (row[:, None] + column) % 2
    return torch.where(odd > 0, second.expand(3, -1, -1), first.expand(3, -1, -1))


def class_overlay(image: Tensor, classes: Tensor) -> Tensor:
    """Draw a class map ``(H, W)`` in ``CLASS_COLOURS`` over the gray ``image`` ``(1 or 3, H, W)``: ``(3, H, W)``.

    Class 0, the background, is transparent; outlines are opaque.
    """
    gray = luminance(image[None])[0].cpu().expand(3, -1, -1)
    colours = (torch.from_numpy(CLASS_COLOURS).float() / 255)[classes].permute(2, 0, 1)
    padded = F.pad(classes[None].float(), (1, 1, 1, 1), mode="replicate")[None]
    outline = (F.max_pool2d(padded, 3, stride=1) > -F.max_pool2d(-padded, 3, stride=1))[0]
    return torch.where(classes > 0, torch.where(outline, colours, 0.45 * gray + 0.55 * colours), gray)
