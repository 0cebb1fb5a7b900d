"""Fit of affine maps to structural descriptors: damped Gauss-Newton from many starts at once. Nothing is learnt.

A fit maximises the normalised correlation of the descriptors, less what the map is improbable by: where the images say
little, two cameras are rather shifted and turned than sheared. A fit starts at a hypothesis, a homography between points
(:mod:`models.registration.search`), by which IR is resampled once (:func:`align`); what is fitted is the affine map
``(N, 2, 3)`` that remains, from VI's points to VI's points. So the prior is relative to the hypothesis: a scale of two
is no more improbable than a scale of one.
"""

from dataclasses import dataclass

import torch
from kornia.geometry.linalg import transform_points
from torch import Tensor

from models.registration.descriptors import SMALLEST_OVERLAP, Comparison, Level, Picture, describe
from models.warping import pixel_grid, sample

_ITERATIONS = 12
_ENOUGH = 1e-5  # a step that gains less in correlation is the last
_LARGEST_ENLARGEMENT = 1.5  # of IR's pixels by a level; more would compare blur with detail
# Scale times cosine and sine of the rotation, the two shears and the shift, from the six numbers of a map.
_PARTS = (
    (0.5, 0, 0, 0, 0.5, 0),
    (0, -0.5, 0, 0.5, 0, 0),
    (0.5, 0, 0, 0, -0.5, 0),
    (0, 0.5, 0, 0.5, 0, 0),
    (0, 0, 1, 0, 0, 0),
    (0, 0, 0, 0, 0, 1),
)


@dataclass(frozen=True)
class Prior:
    """What an improbable map loses in correlation: so much times the square of its change of ``scale``, of its
    ``rotation`` (in radians), of either ``shear`` and of its ``shift`` (in half longer sides).
    """

    scale: float
    rotation: float
    shear: float
    shift: float

    def deviations(self, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Deviations ``(N, 6)`` of maps ``(N, 2, 3)``, whose squares add up to what the maps lose, and the
        deviations' derivatives ``(N, 6, 6)`` with respect to the maps' six numbers. 0 for the identity.
        """
        weights = affine.new_tensor([self.scale, self.rotation, self.shear, self.shear, self.shift, self.shift]).sqrt()
        parts = affine.new_tensor(_PARTS)
        values, slopes = affine.flatten(1) @ parts.T, parts.repeat(len(affine), 1, 1)
        cosine, sine = values[:, :1], values[:, 1:2]
        scale = torch.hypot(cosine, sine)
        values = torch.cat((scale - 1, values[:, 1:]), dim=1)
        slopes[:, 0] = (cosine * parts[0] + sine * parts[1]) / scale
        return weights * values, weights[:, None] * slopes

    def loss(self, affine: Tensor) -> Tensor:
        """What N maps lose in correlation, ``(N,)``."""
        return self.deviations(affine)[0].square().sum(1)


# One frame to a few degrees: two percent of scale cost 0.012, seven degrees of rotation 0.015.
SAME_FRAME = Prior(scale=30.0, rotation=1.0, shear=30.0, shift=1.0)
# A hypothesis of the search is off by up to half a step of scale and of rotation; pixels are square all the same.
HYPOTHESIS = Prior(scale=1.0, rotation=1.0, shear=10.0, shift=0.1)


def align(ir: Picture, vi: Picture, maps: Tensor, side: int, margin: float = 0.0) -> Level:
    """IR resampled by N ``maps`` ``(N, 3, 3)`` from VI's points to IR's, and VI, shrunk to a longer side of ``side``.

    The side is smaller where IR's pixels are coarser. IR reaches ``margin`` of the longer side beyond VI's frame.
    """
    scale = torch.linalg.det(maps[:, :2, :2]).abs().sqrt()  # IR's points a point of VI
    finest = _LARGEST_ENLARGEMENT * float(scale.min()) * max(ir.gray.shape[-2:])
    vi = vi.shrink(min(side, finest))
    longer = max(vi.gray.shape[-2:])
    frame, border = vi.frame, round(margin * longer)
    height, width = (n + 2 * border for n in frame.grid.shape[-2:])
    points = (pixel_grid(height, width, frame.grid) - border - frame.centre) / frame.scale
    points = transform_points(maps, points.flatten(2).mT.expand(len(maps), -1, -1)).mT.view(-1, 2, height, width)
    levels = [_resample(ir.shrink(longer / float(s)), p[None]) for s, p in zip(scale, points)]
    gray, content = (torch.cat(parts) for parts in zip(*levels))
    (ir, ir_mask), (fixed, fixed_mask) = describe(gray, content), describe(vi.gray, vi.content)
    # Where IR shows less than VI, what both show is judged by IR.
    inner = ir_mask[..., border : ir_mask.shape[-2] - border, border : ir_mask.shape[-1] - border]
    shown = float((inner * fixed_mask).sum((1, 2, 3)).min() / fixed_mask.sum().clamp(min=1))
    return Level(ir, ir_mask, fixed, fixed_mask, frame, border, SMALLEST_OVERLAP * shown)


def _resample(ir: Picture, points: Tensor) -> tuple[Tensor, Tensor]:
    pixels = points * ir.frame.scale + ir.frame.centre
    return sample(ir.gray, pixels, padding="border"), sample(ir.content, pixels)


def fit(level: Level, affine: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """Maximise the value of N maps ``(N, 2, 3)``, their correlation less what they are improbable by; returns the maps
    and their values ``(N,)``. The level holds one IR image for all maps or one for each.
    """
    points, scale = level.frame.points, level.frame.scale
    basis = torch.cat((points, torch.ones_like(points[:, :1])), dim=1).flatten(2)[0]
    products = (basis[:, None] * basis[None]).flatten(0, 1)
    damping = affine.new_full((len(affine), 1, 1), 1e-3)

    def evaluate(affine: Tensor) -> tuple[Comparison, Tensor]:
        compared = level.compare(level.frame.pixels(affine))
        return compared, compared.correlation - prior.loss(affine)

    compared, value = evaluate(affine)
    for _ in range(_ITERATIONS):
        second, first = level.normal_equations(compared)
        x, y = scale[:, :1], scale[:, 1:]
        second, first = second * torch.cat((x * x, x * y, y * y), dim=1), first * scale
        xx, xy, yy = (second.flatten(2) @ products.T).view(-1, 3, 3, 3).unbind(1)
        hessian = torch.cat((torch.cat((xx, xy), dim=2), torch.cat((xy, yy), dim=2)), dim=1)
        gradient = (first.flatten(2) @ basis.T).view(-1, 6)
        deviations, derivatives = prior.deviations(affine)
        gradient = gradient + compared.energy[:, None] * (derivatives.mT @ deviations[:, :, None])[:, :, 0]
        hessian = hessian + compared.energy[:, None, None] * (derivatives.mT @ derivatives)
        damped = hessian + damping * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
        damped = damped + 1e-9 * torch.eye(6, device=hessian.device)  # no structure, no step
        proposal = affine - torch.linalg.solve(damped, gradient).view_as(affine)

        proposed, new_value = evaluate(proposal)
        better = new_value > value
        gain = torch.where(better, new_value - value, 0.0)
        affine = torch.where(better.view(-1, 1, 1), proposal, affine)
        compared, value = proposed.where(better, compared), torch.where(better, new_value, value)
        # A step that was damped too little says nothing about what is left to gain.
        if bool(((gain < _ENOUGH) & (better | (damping.flatten() > 1))).all()):
            break
        damping = torch.where(better.view(-1, 1, 1), damping / 3, damping * 10).clamp(1e-7, 1e7)
    return affine, value
