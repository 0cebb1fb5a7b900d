"""The canvas of the procedural scenes: a picture for both cameras, materials, perspective, light and texture.

A picture in the making has four channels: RGB and warmth. The world is metric: x to the right from the middle of the
road, y up from the ground, z forward from the camera.
"""

from dataclasses import dataclass

import cv2
import numpy as np

EYE = 1.7  # height of the camera in metres
DUSKS = (  # colours of zenith and horizon
    ((0.15, 0.22, 0.42), (0.86, 0.52, 0.34)),
    ((0.13, 0.19, 0.36), (0.44, 0.52, 0.66)),
    ((0.22, 0.18, 0.37), (0.80, 0.44, 0.46)),
    ((0.22, 0.26, 0.33), (0.58, 0.53, 0.50)),
)


@dataclass(frozen=True)
class Material:
    """A surface for both cameras: RGB reflectance and thermal brightness in [0, 1].

    None is for what only the other camera sees. `grain` is the contrast of the texture. If the surface
    `shines`, its colour is a radiance: the light around does not matter, and it may exceed 1.
    """

    colour: tuple | None
    warmth: float | None
    grain: float = 0.12
    shines: bool = False

    @property
    def look(self):
        """The four channels, those of a camera that does not see it being 0."""
        return np.float32([*(self.colour or (0, 0, 0)), self.warmth or 0])

    @property
    def seen(self):
        """1 in the channels that see the surface, else 0."""
        return np.float32([self.colour is not None] * 3 + [self.warmth is not None])


MATERIALS = {
    "asphalt": Material((0.29, 0.29, 0.31), 0.37),
    "kerb": Material((0.52, 0.51, 0.49), 0.28),
    "pavement": Material((0.42, 0.40, 0.37), 0.31),
    "paint": Material((0.92, 0.92, 0.88), None),
    "patch": Material((0.21, 0.21, 0.23), 0.45),
    "tyre_track": Material(None, 0.44),
    "manhole": Material((0.16, 0.16, 0.17), 0.68),
    "pipe": Material(None, 0.52),
    "shadow": Material((0.03, 0.03, 0.04), None),
    "brick": Material((0.46, 0.24, 0.18), 0.44),
    "plaster": Material((0.62, 0.55, 0.44), 0.33),
    "stone": Material((0.46, 0.45, 0.44), 0.39),
    "concrete": Material((0.37, 0.40, 0.44), 0.27),
    "trim": Material((0.64, 0.62, 0.58), 0.47),
    "heat": Material(None, 0.62),
    "metal": Material((0.16, 0.17, 0.18), 0.24),
    "rail": Material((0.60, 0.61, 0.62), 0.17),
    "bark": Material((0.17, 0.13, 0.10), 0.33, 0.3),
    "leaves": Material((0.15, 0.20, 0.08), 0.21, 0.5),
    "lamp": Material((4.2, 3.3, 2.0), 0.62, 0.0, True),
    "glass": Material((0.09, 0.11, 0.14), 0.13, 0.25),
    "plastic": Material((0.07, 0.07, 0.08), 0.33),
    "bonnet": Material(None, 0.66, 0.1),
    "tyre": Material((0.05, 0.05, 0.05), 0.47),
    "rim": Material((0.42, 0.43, 0.45), 0.32),
    "exhaust": Material(None, 0.95, 0.0),
    "headlight": Material((4.5, 4.3, 3.8), 0.55, 0.0, True),
    "taillight": Material((2.4, 0.16, 0.10), 0.42, 0.0, True),
    "reflector": Material((0.40, 0.05, 0.05), None),
    "plate": Material((0.85, 0.82, 0.60), None),
    "skin": Material((0.62, 0.44, 0.35), 0.96, 0.04),
    "hair": Material((0.12, 0.08, 0.06), 0.84),
    "tube": Material((0.14, 0.28, 0.40), 0.20),
    "cone": Material((0.95, 0.30, 0.08), 0.24, 0.06),
}


def band(x, low, high, footprint):
    """How much of a pixel of width `footprint` around x lies in [low, high], in [0, 1]."""
    left, right = np.maximum(x - footprint / 2, low), np.minimum(x + footprint / 2, high)
    return np.clip((right - left) / footprint, 0, 1)


def stripes(x, period, low, high, footprint):
    """`band` repeated with a period; it fades to its mean where pixels no longer resolve it."""
    blurred = np.clip(2 * footprint / period - 0.5, 0, 1)
    return band(np.mod(x, period), low, high, footprint) * (1 - blurred) + (high - low) / period * blurred


def lay(look, material, weight):
    """Cover a picture (H, W, 4) with a material, or with another picture, by a weight map (H, W)."""
    other, seen = (material.look, material.seen) if isinstance(material, Material) else (material, 1)
    return look + np.asarray(weight, np.float32)[..., None] * seen * (other - look)


def ellipse(a, b, ra, rb, n=24):
    """Outline (n, 2) of an ellipse around (a, b)."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([a + ra * np.cos(angle), b + rb * np.sin(angle)], 1)


def rectangle(left, right, low, high):
    """Outline (4, 2) of a rectangle."""
    return np.array([(left, low), (right, low), (right, high), (left, high)])


def limb(a, b, ra, rb):
    """Outline (N, 2) of a rounded, tapered bar from a to b."""
    points = np.concatenate([ellipse(*a, ra, ra, 12), ellipse(*b, rb, rb, 12)])
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def upright(outline, z):
    """Stand an outline (N, 2) in x and y at depth z: world points (N, 3)."""
    return np.insert(np.asarray(outline, float), 2, z, axis=1)


def flat(outline):
    """Put an outline (N, 2) in x and z on the ground: world points (N, 3)."""
    return np.insert(np.asarray(outline, float), 1, 0, axis=1)


class Canvas:
    """The picture and its labels, the camera that looks down the street, and the light there."""

    def __init__(self, height, width, rng):
        self.look = np.zeros((height, width, 4), np.float32)
        self.label = np.zeros((height, width), np.uint8)
        self.focal = 0.95 * np.sqrt(height * width)
        self.centre, self.horizon = width * rng.uniform(0.42, 0.58), height * rng.uniform(0.42, 0.50)
        self.x = rng.uniform(1.0, 2.1)  # the camera drives in the right lane
        self.zenith, self.haze = np.float32(DUSKS[rng.integers(len(DUSKS))])
        self.ambient = (0.6 * self.zenith + 0.4 * self.haze + 0.14) * rng.uniform(0.85, 1.25)
        self.lamps = []  # (x, z, radius in metres, RGB)
        self.tile = rng.standard_normal((256, 256), np.float32)

    def rays(self, box):
        """How far right (1, W) and up (H, 1) the pixels of a box look, in metres a metre of depth."""
        v, u = (t.astype(np.float32) for t in np.ogrid[box])
        return (u - self.centre) / self.focal, (self.horizon - v) / self.focal

    def texture(self, a, b, footprint, coarsest=4.0, octaves=7):
        """Fractal noise of deviation near 1 over two metric coordinates, less what pixels cannot resolve."""
        total = np.zeros(np.broadcast(a, b).shape, np.float32)
        for octave in range(octaves):
            scale = coarsest * 0.5**octave
            resolved = np.clip(1.5 * scale / footprint - 0.5, 0, 1)
            if not np.any(resolved):
                break
            turns = [np.asarray(t / (256 * scale) + 0.145 * octave, np.float32) for t in (a, b)]
            grid = [np.broadcast_to(256 * (t - np.floor(t)), total.shape) for t in turns]
            noise = cv2.remap(self.tile, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            total += noise * resolved
        return total * 1.5 / np.sqrt(octaves)

    def light(self, x, z):
        """Light at (x, z) as factors of the four channels: dusk and all lamps around; warmth needs none."""
        total = self.ambient
        for lamp_x, lamp_z, radius, colour in self.lamps:
            distance = ((x - lamp_x) ** 2 + (z - lamp_z) ** 2) / radius**2
            total = total + np.float32(1 / (1 + distance) ** 2)[..., None] * np.float32(colour)
        return np.concatenate([total, np.ones_like(total[..., :1])], -1)

    def cover(self, outlines):
        """Coverage by world polygons [(N, 3), ...], even-odd: a box of slices and alpha; None out of view."""
        height, width = self.label.shape
        x, y, z = np.moveaxis(np.concatenate(outlines), 1, 0)
        z = np.maximum(z, 0.5)
        u, v = self.centre + self.focal * (x - self.x) / z, self.horizon + self.focal * (EYE - y) / z
        points = np.stack([u, v], 1)
        left, top = np.maximum(np.floor(points.min(0)) - 1, 0).astype(int)
        right, bottom = np.minimum(np.ceil(points.max(0)) + 2, (width, height)).astype(int)
        if left >= right or top >= bottom:
            return None
        fine = np.zeros((4 * (bottom - top), 4 * (right - left)), np.uint8)  # four samples a pixel, both ways
        corners = np.clip((points - (left, top) + 0.5) * 4 - 0.5, -1e5, 1e5)
        ends = np.cumsum([len(outline) for outline in outlines])[:-1]
        cv2.fillPoly(fine, np.split(np.round(corners * 16).astype(np.int32), ends), 255, shift=4)
        alpha = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        return (slice(top, bottom), slice(left, right)), alpha.astype(np.float32) / 255

    def blend(self, box, alpha, look, z, seen=1, label=None):
        """Lay a look, seen through the air at distance z, over a box; the label goes where alpha is most."""
        air = np.float32([*(0.5 * self.haze), 0.28])
        look = air + (look - air) * np.exp(-np.asarray(z, np.float32) / 160)[..., None]
        self.look[box] += alpha[..., None] * seen * (look - self.look[box])
        if label is not None:
            self.label[box][alpha >= 0.5] = label

    def paint(self, outlines, material, label=None, soft=0.0):
        """Paint world polygons [(N, 3), ...] with a material; `soft` blurs their edge, in metres."""
        found = self.cover(outlines)
        if found is None:
            return
        box, alpha = found
        x, _, z = np.concatenate(outlines).mean(0)
        if soft:
            alpha = cv2.GaussianBlur(alpha, (0, 0), max(soft * self.focal / z, 0.3))
        right, up = self.rays(box)
        grain = material.grain * self.texture(right * z + x, up * z + z, z / self.focal, 0.6, 5)
        look = material.look * (1 + grain[..., None] * np.float32([1, 1, 1, 0.5]))
        look = look if material.shines else look * self.light(x, z)
        self.blend(box, alpha, look, z, material.seen, label)
