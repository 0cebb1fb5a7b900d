"""Make pairs of two unlike cameras with the true map between them from aligned pairs.

A second IR camera looks at the scene through a homography: its field of view is a part of VI's, it is rotated,
shifted and slightly tilted against VI's camera, and its sensor has another size. The camera depends on the seed and
the pair's name only, so any subset of the pairs gives the same files anywhere.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from torch import Tensor

from models.warping import pixel_grid, sample

SENSORS = ((640, 512), (640, 480), (384, 288), (320, 256), (160, 120))  # width, height
# The field of view as a share of VI's width, the rotation in degrees, and the relative change of scale by a tilt from
# the centre of the frame to its edge.
_VIEW, _ROTATION, _TILT = (0.45, 1.0), 8.0, 0.03


@dataclass(frozen=True)
class CameraPair:
    """Hold ``ir`` ``(C, h, w)``, ``vi`` ``(C, H, W)`` in [0, 1] and ``vi_to_ir`` ``(3, 3)``, float64: pixels of VI to
    pixels of IR, centres at whole numbers.
    """

    ir: Tensor
    vi: Tensor
    vi_to_ir: Tensor


def unlike_cameras(name: str, ir: Tensor, vi: Tensor, seed: int) -> CameraPair:
    """Make a pair of unlike cameras from aligned images ``(C, H, W)`` in [0, 1] of one size."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    size = tuple(vi.shape[-2:])
    sensor = SENSORS[rng.integers(len(SENSORS))]
    view = _ir_to_vi(rng, sensor, (size[1], size[0]))
    pixels_per_pixel = float(torch.linalg.det(view[:2, :2]).abs().sqrt())
    grid = pixel_grid(sensor[1], sensor[0], view).flatten(2).mT
    positions = transform_points(view[None], grid).mT.view(1, 2, sensor[1], sensor[0])
    return CameraPair(_resample(ir, positions.float(), pixels_per_pixel), vi, torch.linalg.inv(view))


def _ir_to_vi(rng: np.random.Generator, sensor: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Draw a homography ``(3, 3)`` from pixels of the sensor to a frame of ``size``, both (width, height)."""
    width, height = size
    angle = np.deg2rad(rng.uniform(-_ROTATION, _ROTATION))
    wanted = rng.uniform(*_VIEW) * width / sensor[0]
    cosine, sine = np.cos(angle), np.sin(angle)
    # The rotated frame's bounding box must fit into the image: nothing is recorded outside it.
    box = np.array([sensor[0] * cosine + sensor[1] * abs(sine), sensor[0] * abs(sine) + sensor[1] * cosine])
    scale = min(wanted, 0.98 * (np.array(size) / box).min())
    centre = (np.array(size) - 1) / 2 + rng.uniform(-0.5, 0.5, 2) * (np.array(size) - scale * box)
    tilt = rng.uniform(-_TILT, _TILT, 2) / (np.array(sensor) / 2)
    from_centre = np.array([[1, 0, -(sensor[0] - 1) / 2], [0, 1, -(sensor[1] - 1) / 2], [0, 0, 1]])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
    similarity = np.array(
        [[scale * cosine, -scale * sine, centre[0]], [scale * sine, scale * cosine, centre[1]], [0, 0, 1]]
    )
    return torch.from_numpy(similarity @ perspective @ from_centre)


def _resample(image: Tensor, positions: Tensor, step: float) -> Tensor:
    """Sample ``image`` ``(C, H, W)`` at ``positions`` ``(1, 2, h, w)`` that lie ``step`` px apart, without aliasing."""
    height, width = image.shape[-2:]
    reduction = max(1.0, step)
    size = (round(height / reduction), round(width / reduction))
    reduced = F.interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)
    ratio = positions.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1)
    return sample(reduced, (positions + 0.5) * ratio - 0.5, padding="border")[0].clamp(0, 1)
