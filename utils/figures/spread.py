"""A picture of how single transforms differ from their mean, enlarged, over the visible image."""

import colorsys

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.colour import luminance


def spread_picture(vi: Tensor, points: Tensor, offsets: Tensor, enlarged: float) -> Tensor:
    """Draw the ``offsets`` ``(T, N, 2)`` of T transforms at ``points`` ``(N, 2)`` of ``vi`` ``(1 or 3, H, W)``, in px.

    Offsets are ``enlarged`` so many times; each transform has its own colour. Returns ``(3, H, W)``.
    """
    gray = (0.5 * luminance(vi[None])[0]).expand(3, -1, -1).permute(1, 2, 0)
    picture = np.ascontiguousarray(gray.cpu().numpy())
    width = max(1, round(vi.shape[-1] / 640))
    for number, moved in enumerate(offsets):
        colour = colorsys.hsv_to_rgb(number / len(offsets), 0.8, 1.0)
        for start, offset in zip(points.tolist(), moved.tolist()):
            end = [round(a + enlarged * b) for a, b in zip(start, offset)]
            cv2.line(picture, [round(a) for a in start], end, colour, width, cv2.LINE_AA)
            cv2.circle(picture, end, 2 * width, colour, cv2.FILLED, cv2.LINE_AA)
    return torch.from_numpy(picture).permute(2, 0, 1).clamp(0, 1)
