"""Random deformations: an affine map after a smooth elastic field, with its exact inverse (paper, Sec. IV-A).

A deformation maps a pixel ``q`` of the deformed image to the position ``q + d(q) = A (q + e(q))`` in the original, so
``deformed(q) = original(q + d(q))``. It is defined on the whole plane, not only on the frame, so it can be evaluated on
any crop, and its inverse is exact at the border too.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.paired import Pair
from models.layers import blur, gaussian_kernel
from models.warping import central_rectangle, pixel_grid, sample, valid_mask, warp
from utils.errors import UserError

# The paper's elastic field is uniform noise blurred six times by truncated Gaussians of sigma 15; on the authors' test
# fields its autocorrelation is exp(-r^2 / (4 s^2)) with s about 24 px. Here one Gaussian of that s does the same, and
# so smooth a field is stored at every 8th pixel only, with a margin of 128 px.
_ELASTIC_SIGMA = 24.0
_SPACING = 8
_MARGIN = 128


@dataclass(frozen=True)
class Ranges:
    """Ranges of random deformations; the defaults are the published ranges for training.

    ``rotation`` is the largest angle in degrees at a longer side of 500 px; it is proportional to that side, as
    published. ``translation`` is the largest shift along each axis as a share of the longer side (the published 0.1 is
    in units of half that side). ``shear`` is the largest absolute value added to each entry of the linear map.
    ``elastic`` is the standard deviation of the elastic field in pixels. ``scale`` is the largest factor by which the
    image is enlarged; the smallest is its inverse.
    """

    rotation: float = 10.0
    translation: float = 0.05
    shear: float = 0.0
    elastic: float = 1.6
    scale: float = 1.0


TEST = Ranges(rotation=7.0, translation=0.025, elastic=1.2)

# Beyond what a test set has, for a matcher that catches more: 15 degrees at 640 px, shifts to a tenth of the image.
WIDE = Ranges(rotation=15 * 500 / 640, translation=0.1, shear=0.03, scale=1.18)

# What is left after a registration: about 2 px at 640 px.
REGISTERED = Ranges(rotation=0.3, translation=0.003, shear=0.005, elastic=0.6)


class Deformation:
    """A batch of deformations of images of at most ``size`` (height, width); see the module's docstring.

    ``matrix`` ``(B, 2, 3)`` is the affine map A in pixels, ``elastic`` ``(B, 2, h, w)`` the elastic field e in pixels,
    sampled at every 8th pixel of the frame and a margin of 128 px.
    """

    def __init__(self, matrix: Tensor, elastic: Tensor, size: tuple[int, int]):
        self.matrix, self.elastic, self.size = matrix, elastic, size
        linear, shift = matrix[:, :, :2], matrix[:, :, 2:]
        inverse = torch.linalg.inv_ex(linear).inverse  # unlike inv(), does not wait for the device to report errors
        self.inverse_matrix = torch.cat((inverse, -inverse @ shift), dim=2)

    def _elastic_at(self, points: Tensor) -> Tensor:
        return sample(self.elastic, (points + _MARGIN) / _SPACING, padding="border")

    def frame(self) -> Tensor:
        """Return the pixel positions of the whole image, ``(B, 2, H, W)``."""
        return pixel_grid(*self.size, like=self.matrix).expand(len(self.matrix), -1, -1, -1)

    def displacement(self, points: Tensor | None = None) -> Tensor:
        """Evaluate ``d(q)`` in pixels at ``points`` q ``(B, 2, h, w)``, by default on the whole frame; same shape."""
        points = self.frame() if points is None else points
        return apply_affine(self.matrix, points + self._elastic_at(points)) - points

    def inverse_displacement(self, points: Tensor | None = None, iterations: int = 20) -> Tensor:
        """Evaluate the inverse ``phi(p)`` in pixels at ``points`` p: ``q = p + phi(p)`` solves ``q + d(q) = p``.

        The affine part is inverted in closed form, the elastic part by a fixed-point iteration whose contraction factor
        is the slope of the field (below 0.2 for the published ranges), so 20 iterations reach float32 rounding.
        """
        points = self.frame() if points is None else points
        target = apply_affine(self.inverse_matrix, points)
        position = target
        for _ in range(iterations):
            position = target - self._elastic_at(position)
        return position - points


def apply_affine(matrix: Tensor, points: Tensor) -> Tensor:
    """Map ``points`` ``(B, 2, h, w)`` (x, y) by ``matrix`` ``(B, 2, 3)``."""
    return apply_linear(matrix[:, :, :2], points) + matrix[:, :, 2, None, None]


def apply_linear(linear: Tensor, vectors: Tensor) -> Tensor:
    """Map ``vectors`` ``(B, 2, h, w)`` (x, y) by ``linear`` ``(B, 2, 2)``."""
    # Not a matrix product, which a GPU may round to ten bits (TF32): half a pixel in a thousand.
    to_x, to_y = (linear[:, row, :, None, None] * vectors for row in range(2))
    return torch.stack((to_x.sum(dim=1), to_y.sum(dim=1)), dim=1)


def random_deformation(
    batch: int,
    size: Sequence[int],
    ranges: Ranges,
    generator: torch.Generator,
    sizes: Tensor | None = None,
    affine: Tensor | None = None,
    wide: Tensor | None = None,
) -> Deformation:
    """Draw ``batch`` deformations, on the device of ``generator``, for images of at most ``size`` (height, width).

    On that device, ``sizes`` ``(B, 2)`` holds the (height, width) of each image, by default ``size``; ``affine``
    ``(B,)`` scales the ranges of the affine part of each sample; where ``wide`` ``(B,)`` is set, that part has the
    ranges of :data:`WIDE` instead of ``ranges``. Nothing waits for the device.
    """
    device = generator.device

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator, device=device) - 1

    if sizes is None:
        height, width = size
        sizes = torch.tensor([[height, width]], dtype=torch.float32, device=device).expand(batch, 2)
    factor = torch.ones(batch, device=device) if affine is None else affine
    special = torch.zeros(batch, dtype=torch.bool, device=device) if wide is None else wide

    def largest(name: str) -> Tensor:
        return torch.where(special, getattr(WIDE, name), getattr(ranges, name)) * factor

    longer = sizes.amax(dim=1)
    angle = uniform(batch) * largest("rotation") * (math.pi / 180) * longer / 500
    cos, sin = torch.cos(angle), torch.sin(angle)
    linear = torch.stack((cos, -sin, sin, cos), dim=1).view(batch, 2, 2)
    linear = linear + uniform(batch, 2, 2) * largest("shear").view(-1, 1, 1)
    shift = uniform(batch, 2) * (largest("translation") * longer)[:, None]

    cells = [math.ceil((side + 2 * _MARGIN) / _SPACING) + 1 for side in size]
    sigma = _ELASTIC_SIGMA / _SPACING
    taps = 6 * math.ceil(sigma) + 1
    noise = uniform(batch, 2, *(n + taps - 1 for n in cells))
    half = taps // 2
    field = blur(noise, gaussian_kernel(taps, sigma, device), border="zero")[:, :, half:-half, half:-half]
    # Uniform noise in [-1, 1] has variance 1/3; filtering scales it by the sum of squared weights.
    deviation = math.sqrt(1 / 3) * float(gaussian_kernel(taps, sigma).square().sum())
    elastic = field * (ranges.elastic / deviation)

    # Drawn last: what a seed draws for ranges without it stays as it was.
    magnification = torch.where(special, math.log(WIDE.scale), math.log(ranges.scale)) * factor * uniform(batch)
    linear = linear * magnification.exp().view(-1, 1, 1)
    centre = ((sizes.flip(1) - 1) / 2)[:, :, None]
    # Not a matrix product, which a GPU may round to ten bits (TF32).
    offset = centre - (linear * centre.mT).sum(dim=2, keepdim=True) + shift[:, :, None]
    return Deformation(torch.cat((linear, offset), dim=2), elastic, (size[0], size[1]))


def true_displacement(name: str, size: Sequence[int], seed: int) -> Tensor:
    """Draw the displacement ``(1, 2, H, W)`` in pixels for the image ``name`` of ``size`` (height, width)."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return random_deformation(1, size, TEST, generator).displacement()


def deform(pair: Pair, seed: int, band: bool) -> Pair:
    """Make a test pair from an aligned one; without ``band``, crop it to where no black band is.

    Raises UserError if the images differ in size, or if no rectangle without a band contains the centre.
    """
    pair.check_aligned()
    flow = true_displacement(pair.name, pair.vi.shape[-2:], seed)
    deformed = Pair(pair.name, pair.ir, pair.vi, warp(pair.ir[None], flow)[0], flow[0])
    if band:
        return deformed
    try:
        rows, columns = central_rectangle(valid_mask(flow)[0, 0])
    except ValueError as error:
        raise UserError(f"{pair.name}: {error}; choose another seed") from error
    # Displacements are relative, so the flow of the crop is the crop of the flow.
    return Pair(pair.name, *(x[:, rows, columns] for x in (deformed.ir, deformed.vi, deformed.ir_warp, deformed.flow)))
