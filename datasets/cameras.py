"""Pairs of two unlike cameras with the true map between them, made from aligned pairs.

A second IR camera looks at the scene through a homography: its field of view is a part of VI's, it is turned, shifted
and slightly tilted against VI's camera, and its sensor has another size. What a camera sees depends on the seed and
the pair's name only, so any subset of the pairs gives the same files anywhere.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from kornia.geometry.linalg import transform_points
from torch import Tensor

from datasets.paired import Pair
from models.warping import pixel_grid, sample_reduced

# The turned frame of the IR camera fills at most this share of the image's height or width.
_FILL = 0.98


@dataclass(frozen=True)
class Cameras:
    """The IR cameras to draw from.

    ``view``: the smallest and the largest field of view, as a share of VI's width; it is reduced where the turned frame
    would reach beyond the image. ``rotation``: the largest angle in degrees, either way. ``tilt``: by how much of
    itself the scale may differ between the middle of IR's frame and its edge, on either axis; a corner that it takes
    beyond the image shows the image's edge pixels. ``sensors``: the sizes (width, height) of IR's frame.
    """

    view: tuple[float, float] = (0.45, 1.0)
    rotation: float = 8.0
    tilt: float = 0.03
    sensors: tuple[tuple[int, int], ...] = ((640, 512), (640, 480), (384, 288), (320, 256), (160, 120))


def unlike_cameras(pair: Pair, seed: int, cameras: Cameras = Cameras()) -> Pair:
    """Make a pair of unlike cameras from an aligned one, with an IR camera drawn from ``cameras``.

    ``vi`` is unchanged, ``ir`` ``(C, h, w)`` is what the camera sees, of its sensor's size, and ``vi_to_ir`` the true
    map. Raises UserError if the images differ in size.
    """
    pair.check_aligned()
    digest = hashlib.sha256(f"{seed}/{pair.name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    height, width = pair.vi.shape[-2:]
    sensor = cameras.sensors[rng.integers(len(cameras.sensors))]
    ir_to_vi = _ir_to_vi(rng, cameras, sensor, (width, height))
    points = pixel_grid(sensor[1], sensor[0], like=ir_to_vi).flatten(2).mT
    positions = transform_points(ir_to_vi[None], points).mT.view(1, 2, sensor[1], sensor[0])
    vi_to_ir = torch.linalg.inv(ir_to_vi)
    seen = sample_reduced(pair.ir[None], positions, padding="border")[0].clamp(0, 1)
    return Pair(pair.name, seen, pair.vi, vi_to_ir=vi_to_ir / vi_to_ir[2, 2])


def _ir_to_vi(rng: np.random.Generator, cameras: Cameras, sensor: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Draw a homography ``(3, 3)`` from pixels of the sensor to those of a frame of ``size``, both (width, height)."""
    angle = np.deg2rad(rng.uniform(-cameras.rotation, cameras.rotation))
    wanted = rng.uniform(*cameras.view) * size[0] / sensor[0]
    cos, sin = np.cos(angle), np.sin(angle)
    # The turned frame's bounding box must fit into the image, or the camera would see what nobody recorded.
    box = np.array([[abs(cos), abs(sin)], [abs(sin), abs(cos)]]) @ sensor
    scale = min(wanted, _FILL * (size / box).min())
    x, y = (np.array(size) - 1) / 2 + rng.uniform(-0.5, 0.5, 2) * (size - scale * box)
    tilt = rng.uniform(-cameras.tilt, cameras.tilt, 2) / (np.array(sensor) / 2)
    from_centre = np.array([[1, 0, -(sensor[0] - 1) / 2], [0, 1, -(sensor[1] - 1) / 2], [0, 0, 1]])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
    similarity = np.array([[scale * cos, -scale * sin, x], [scale * sin, scale * cos, y], [0, 0, 1]])
    return torch.from_numpy(similarity @ perspective @ from_centre)
