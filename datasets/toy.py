"""Toy scenes for tests and dry runs: visible and thermal images of boxes and ellipses, with labels.

Every shape has its own colour and heat, so that the images share all edges, about half of them with inverted contrast.
Positions are relative to the image's width and height: the layout does not depend on the size.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.deformation import deform
from datasets.paired import Pair, PairSet
from utils.classes import CLASSES

CAR, PERSON = CLASSES.index("car"), CLASSES.index("person")
HORIZON = 0.55
_SCENES = 3
_BOX, _ELLIPSE = 8, 2  # the power p of the outline |x|^p + |y|^p = 1


class Canvas:
    """A scene, painted from far to near: ``look`` ``(4, H, W)`` (R, G, B and heat) and ``label`` ``(H, W)``."""

    def __init__(self, height: int, width: int):
        self.look, self.label = torch.zeros(4, height, width), torch.zeros(height, width, dtype=torch.int64)
        self.rows, self.columns = ((torch.arange(side) + 0.5) / side for side in (height, width))

    def paint(self, look: Tensor, x: float, y: float, rx: float, ry: float, power: int = _BOX, label: int = 0) -> None:
        """Paint a shape with centre (x, y) and half-axes (rx, ry); its edges are antialiased."""
        height, width = self.label.shape
        box = span(y, ry, height), span(x, rx, width)
        dy, dx = (self.rows[box[0]] - y) / ry, (self.columns[box[1]] - x) / rx
        radius = (dy.abs()[:, None] ** power + dx.abs() ** power) ** (1 / power)
        share = (0.5 + (1 - radius) * min(rx * width, ry * height)).clamp(0, 1)
        painted = self.look[:, box[0], box[1]]
        painted.lerp_(look.view(4, 1, 1), share)
        self.label[box][share >= 0.5] = label


def span(middle: float, reach: float, side: int) -> slice:
    """Return the pixels that the interval ``middle`` +- ``reach`` covers, both relative to ``side``."""
    return slice(max(0, math.floor((middle - reach) * side)), max(0, math.ceil((middle + reach) * side)))


def texture(cells: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw smooth noise ``(1, H, W)`` in [-1, 1], interpolated from a grid of ``cells`` x ``cells`` values."""
    noise = 2 * torch.rand(1, 1, cells, cells, generator=generator) - 1
    return F.interpolate(noise, (height, width), mode="bilinear", antialias=True)[0]


def toy_scene(seed: int, height: int = 480, width: int = 640) -> Pair:
    """Render the aligned, labelled pair of a seed, at least 32 x 32: houses, two cars, three people."""
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    def look(light: float, heat: float) -> Tensor:
        """Draw a colour of about this ``light`` and about this ``heat``, ``(4,)``."""
        return torch.tensor([between(-0.15, 0.15) + light for _ in range(3)] + [between(-0.06, 0.06) + heat])

    canvas = Canvas(height, width)
    canvas.paint(look(0.75, 0.12), 0.5, HORIZON / 2, 0.6, 0.6)  # the sky
    canvas.paint(look(0.3, 0.35), 0.5, 1.5, 2.0, 1.5 - HORIZON)  # the ground
    for house in range(6):
        x, rx, top = (house + between(0.3, 0.7)) / 6, between(0.05, 0.09), between(0.05, 0.35)
        canvas.paint(look(between(0.25, 0.6), between(0.15, 0.5)), x, (top + HORIZON) / 2, rx, (HORIZON - top) / 2)
        for pane in range(6):
            at = x + (pane % 2 - 0.5) * rx, top + (HORIZON - top) * (pane // 2 + 0.6) / 3.4
            canvas.paint(look(between(0.1, 0.9), between(0.15, 0.6)), *at, 0.25 * rx, 0.08 * (HORIZON - top))
    for _ in range(8):  # bushes, puddles
        x, y, size = between(0, 1), between(0.5, 1), between(0.03, 0.07)
        canvas.paint(look(between(0.2, 0.6), between(0.15, 0.3)), x, y, size, 0.6 * size, _ELLIPSE)
    for side in (0.05, 0.55):
        x, y, size = side + between(0.1, 0.3), between(0.62, 0.75), between(0.09, 0.13)
        body, glass, tyre, engine = look(between(0.15, 0.7), 0.45), look(0.1, 0.25), look(0.05, 0.7), look(0.4, 0.85)
        canvas.paint(glass, x, y - 0.5 * size, 0.6 * size, 0.5 * size, _BOX, CAR)
        canvas.paint(body, x, y, size, 0.4 * size, _BOX, CAR)
        canvas.paint(engine, x + 0.7 * size, y, 0.25 * size, 0.25 * size, _ELLIPSE, CAR)
        for wheel in (-0.6, 0.6):
            canvas.paint(tyre, x + wheel * size, y + 0.4 * size, 0.2 * size, 0.25 * size, _ELLIPSE, CAR)
    for person in range(3):
        x, y, size = (person + between(0.2, 0.8)) / 3, between(0.55, 0.8), between(0.16, 0.3)
        legs, coat = look(between(0.05, 0.6), 0.8), look(between(0.05, 0.6), 0.65)
        canvas.paint(legs, x, y + 0.3 * size, 0.1 * size, 0.27 * size, _BOX, PERSON)
        canvas.paint(coat, x, y - 0.1 * size, 0.15 * size, 0.25 * size, _ELLIPSE, PERSON)
        canvas.paint(look(0.6, 0.92), x, y - 0.4 * size, 0.07 * size, 0.1 * size, _ELLIPSE, PERSON)

    # Texture common to both images, with a sign that varies over IR, and texture of each image alone.
    scales, size = (6, 25, 100), (height, width)
    both, only_vi, only_ir = (sum(texture(cells, *size, generator) for cells in scales) / 3 for _ in range(3))
    sign = texture(4, *size, generator).mul(3).tanh()
    vi = canvas.look[:3] * (1 + 0.5 * both + 0.15 * only_vi)
    ir = canvas.look[3:] + 0.12 * both * sign + 0.04 * only_ir
    return Pair(f"toy_{seed}", ir.clamp(0, 1), vi.clamp(0, 1), label=canvas.label)


class ToyScenes(PairSet):
    """Three toy scenes, 480 x 640, whose IR images are deformed as those of the test sets are.

    Indexing returns a :class:`datasets.paired.Pair` with ``ir_warp``, ``flow`` and ``label``.
    """

    has_flow = True
    has_label = True

    def __init__(self):
        self.names = [f"toy_{seed}" for seed in range(_SCENES)]

    def __getitem__(self, index: int) -> Pair:
        scene = toy_scene(int(self.names[index].removeprefix("toy_")))
        return replace(deform(scene, seed=0, band=True), label=scene.label)
