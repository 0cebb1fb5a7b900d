"""Points that a person marks in both images, and the pictures that show them."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from models.registration.points import transform_of_points
from models.registration.transform import Transform
from models.warping import resize
from utils.errors import UserError
from utils.files.images import read_visible
from utils.files.infrared import read_infrared

COUNT = 4
_SIDE = 960  # the longer side of a picture in pixels, at most
_COLOURS = ((255, 80, 80), (255, 210, 60), (90, 220, 120), (90, 170, 255))  # RGB


def to_pixels(image: Tensor) -> np.ndarray:
    """Convert an image ``(1 or 3, H, W)`` in [0, 1] to 8-bit RGB ``(H, W, 3)``."""
    return (image.expand(3, -1, -1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


@dataclass
class Marks:
    """The points marked in one image: a ``picture`` of it, 8-bit RGB, the ``size`` (width, height) of its file, and up
    to :data:`COUNT` ``points``, x and y in pixels of the picture.
    """

    picture: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    points: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def of_file(cls, path: Path, thermal: bool) -> "Marks":
        """Read a file as ``test.py`` does, without marks yet. Raises UserError if it cannot be read."""
        image = read_infrared(path).image if thermal else read_visible(path)[0]
        height, width = image.shape[-2:]
        scale = min(1.0, _SIDE / max(height, width))
        reduced = resize(image[None], [max(1, round(side * scale)) for side in (height, width)])[0]
        return cls(to_pixels(reduced), (width, height))

    def mark(self, x: float, y: float) -> None:
        """Add a point; when all are there, move the nearest one."""
        if len(self.points) < COUNT:
            self.points.append((x, y))
            return
        distances = [(x - a) ** 2 + (y - b) ** 2 for a, b in self.points]
        self.points[distances.index(min(distances))] = (x, y)

    def drawn(self) -> np.ndarray | None:
        """Draw the points, with their numbers, into the picture."""
        if self.picture is None:
            return None
        drawn, unit = self.picture.copy(), max(self.picture.shape[:2]) / 100
        for number, ((x, y), colour) in enumerate(zip(self.points, _COLOURS), 1):
            centre, radius = (round(x), round(y)), round(1.5 * unit)
            for width, shade in ((round(0.6 * unit) + 2, (0, 0, 0)), (max(1, round(0.3 * unit)), colour)):
                cv2.circle(drawn, centre, radius, shade, width, cv2.LINE_AA)
                corner = (centre[0] + radius + 2, centre[1] - radius)
                cv2.putText(drawn, str(number), corner, cv2.FONT_HERSHEY_SIMPLEX, unit / 8, shade, width, cv2.LINE_AA)
        return drawn

    def positions(self) -> Tensor:
        """Return the points ``(N, 2)`` in pixels of the file."""
        height, width = self.picture.shape[:2]
        scale = torch.tensor([self.size[0] / width, self.size[1] / height], dtype=torch.float64)
        return (torch.tensor(self.points, dtype=torch.float64).view(-1, 2) + 0.5) * scale - 0.5


def start_of(vi: Marks, ir: Marks) -> Transform:
    """Make the transform that takes the points marked in VI to those in IR.

    Raises UserError unless all are marked, and for points that determine no map.
    """
    if min(len(vi.points), len(ir.points)) < COUNT:
        raise UserError(
            f"{len(vi.points)} points are marked in VI and {len(ir.points)} in IR; mark the same {COUNT} in both"
        )
    try:
        return transform_of_points(vi.positions(), ir.positions(), vi.size, ir.size)
    except ValueError as error:
        raise UserError(str(error)) from error
