"""Fit of affine maps and homographies to structural descriptors, by damped Gauss-Newton from many starts at once.

A fit maximises the normalised correlation of the descriptors minus the penalty of a prior, which prefers shifts and
rotations to shear where the images constrain little. A fit starts at a hypothesis, a homography between points
(:mod:`models.registration.search`), by which IR is resampled once (:func:`align`); the fitted map ``(N, 3, 3)`` is the
residual one, from VI's points to VI's points. The prior is therefore relative to the hypothesis: a scale of two costs
no more than a scale of one.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from torch import Tensor

from models.registration.descriptors import SMALLEST_OVERLAP, Comparison, Level, Picture, describe
from models.warping import pixel_grid, sample

_ENOUGH = 3e-5  # stop when no step promises to gain more correlation than this
_LARGEST_ENLARGEMENT = 1.5  # of IR's pixels by a level; more would compare blur with detail
# Rows: scale times cosine and sine of the rotation, two shears, two shifts, two perspective terms. Columns: the first
# eight numbers of a map.
_PARTS = (
    (0.5, 0, 0, 0, 0.5, 0, 0, 0),
    (0, -0.5, 0, 0.5, 0, 0, 0, 0),
    (0.5, 0, 0, 0, -0.5, 0, 0, 0),
    (0, 0.5, 0, 0.5, 0, 0, 0, 0),
    (0, 0, 1, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 1, 0, 0),
    (0, 0, 0, 0, 0, 0, 1, 0),
    (0, 0, 0, 0, 0, 0, 0, 1),
)
# Powers of x and y of the monomials of degree 0 to 4; the first six are those of degree 2 at most, and _PRODUCTS says
# where the product of any two of these six is.
_MONOMIALS = [(n - k, k) for n in range(5) for k in range(n + 1)]
_PRODUCTS = [[_MONOMIALS.index((a + c, b + d)) for c, d in _MONOMIALS[:6]] for a, b in _MONOMIALS[:6]]
# Derivatives of a point's x and of its y with respect to the first eight numbers of a map, at the identity, in terms of
# the first six monomials.
_DERIVATIVES = (
    (
        (0, 1, 0, 0, 0, 0),
        (0, 0, 1, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        *3 * ((0, 0, 0, 0, 0, 0),),
        (0, 0, 0, -1, 0, 0),
        (0, 0, 0, 0, -1, 0),
    ),
    (
        *3 * ((0, 0, 0, 0, 0, 0),),
        (0, 1, 0, 0, 0, 0),
        (0, 0, 1, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, -1, 0),
        (0, 0, 0, 0, 0, -1),
    ),
)


@dataclass(frozen=True)
class Prior:
    """A quadratic penalty on maps, in units of correlation: the sum of each weight times the square of the change of
    ``scale``, the ``rotation`` (radians), both ``shear`` terms, the ``shift`` (half longer sides) and the change of
    scale by ``perspective`` from the centre to the end of the longer side. Without ``perspective``, maps are affine.
    """

    scale: float
    rotation: float
    shear: float
    shift: float
    perspective: float | None = None

    def residuals(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted residuals ``(N, 8)`` of ``maps`` ``(N, 3, 3)``, whose sum of squares is the penalty, and
        their jacobian ``(N, 8, 8)`` with respect to the maps' first eight numbers. The identity has residuals 0.
        """
        weights = (self.scale, self.rotation, *2 * (self.shear,), *2 * (self.shift,), *2 * (self.perspective or 0.0,))
        weights, parts = maps.new_tensor(weights).sqrt(), maps.new_tensor(_PARTS)
        values, jacobian = maps.flatten(1)[:, :8] @ parts.T, parts.repeat(len(maps), 1, 1)
        cosine, sine = values[:, :1], values[:, 1:2]
        scale = torch.hypot(cosine, sine)
        values = torch.cat((scale - 1, values[:, 1:]), dim=1)
        jacobian[:, 0] = (cosine * parts[0] + sine * parts[1]) / scale
        return weights * values, weights[:, None] * jacobian

    def penalty(self, maps: Tensor) -> Tensor:
        """Return the penalty ``(N,)`` of ``maps`` ``(N, 3, 3)``."""
        return self.residuals(maps)[0].square().sum(1)


# Frames that agree to a few degrees: two percent of scale cost 0.012, seven degrees of rotation 0.015.
SAME_FRAME = Prior(scale=30.0, rotation=1.0, shear=30.0, shift=1.0)
# The search quantises scale and rotation, so both may change by half a step; shear stays improbable.
HYPOTHESIS = Prior(scale=1.0, rotation=1.0, shear=10.0, shift=0.1, perspective=10.0)
# The finer level constrains shear and perspective better: the mean error of 77 pairs falls from 2.74 to 2.64 px.
FINER_HYPOTHESIS = Prior(scale=1.0, rotation=1.0, shear=1.0, shift=0.1, perspective=1.0)


def align(ir: Picture, vi: Picture, maps: Tensor, side: int, margin: float = 0.0) -> Level:
    """Resample IR by N ``maps`` ``(N, 3, 3)`` from VI's points to IR's and describe both at a longer side of ``side``.

    The side is reduced where IR's pixels are coarser. IR extends ``margin`` of the longer side beyond VI's frame.
    """
    scale = torch.linalg.det(maps[:, :2, :2]).abs().sqrt()  # IR points per VI point
    finest = _LARGEST_ENLARGEMENT * float(scale.min()) * max(ir.gray.shape[-2:])
    vi = vi.shrink(min(side, finest))
    longer = max(vi.gray.shape[-2:])
    frame, border = vi.frame, round(margin * longer)
    height, width = (n + 2 * border for n in frame.grid.shape[-2:])
    points = (pixel_grid(height, width, frame.grid) - border - frame.centre) / frame.scale
    points = transform_points(maps, points.flatten(2).mT.expand(len(maps), -1, -1)).mT.view(-1, 2, height, width)
    levels = [_resample(ir.shrink(longer / float(s)), p[None]) for s, p in zip(scale, points)]
    gray, content = (torch.cat(parts) for parts in zip(*levels))
    (ir, ir_mask), (fixed, fixed_mask) = describe(gray, content), vi.describe()
    # Where IR's field of view is smaller than VI's, the smallest overlap is a share of IR's.
    inner = ir_mask[..., border : ir_mask.shape[-2] - border, border : ir_mask.shape[-1] - border]
    shown = float((inner * fixed_mask).sum((1, 2, 3)).min() / fixed_mask.sum().clamp(min=1))
    return Level(ir, ir_mask, fixed, fixed_mask, frame, border, SMALLEST_OVERLAP * shown)


def _resample(ir: Picture, points: Tensor) -> tuple[Tensor, Tensor]:
    pixels = points * ir.frame.scale + ir.frame.centre
    return sample(ir.gray, pixels, padding="border"), sample(ir.content, pixels)


def fit(level: Level, maps: Tensor, prior: Prior, iterations: int = 8) -> tuple[Tensor, Tensor]:
    """Maximise the correlation minus the penalty of N ``maps`` ``(N, 3, 3)``; return the maps and the values ``(N,)``.

    The level holds one IR image for all maps or one for each.
    """
    count = 6 if prior.perspective is None else 8
    monomials = _monomials(level, 2 if prior.perspective is None else 4)
    damping = maps.new_full((len(maps), 1, 1), 1e-3)

    def evaluate(maps: Tensor) -> tuple[Comparison, Tensor]:
        compared = level.compare(level.frame.pixels(maps))
        return compared, compared.correlation - prior.penalty(maps)

    compared, value = evaluate(maps)
    for _ in range(iterations):
        hessian, gradient = _normal_equations(level, compared, monomials, count)
        residuals, derivatives = prior.residuals(maps)
        derivatives = derivatives[:, :, :count]
        gradient = gradient + compared.energy[:, None] * (derivatives.mT @ residuals[:, :, None])[:, :, 0]
        hessian = hessian + compared.energy[:, None, None] * (derivatives.mT @ derivatives)
        damped = hessian + damping * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
        damped = damped + 1e-9 * torch.eye(count, device=hessian.device)  # solvable without any structure
        step = torch.linalg.solve(damped, gradient)
        promised = (step * gradient).sum(1) / (2 * compared.energy.clamp(min=1e-6))
        if bool((promised < _ENOUGH).all()):
            break
        proposal = maps - F.pad(step, (0, 9 - count)).view_as(maps)

        proposed, new_value = evaluate(proposal)
        better = new_value > value
        maps = torch.where(better.view(-1, 1, 1), proposal, maps)
        compared, value = proposed.where(better, compared), torch.where(better, new_value, value)
        damping = torch.where(better.view(-1, 1, 1), damping / 3, damping * 10).clamp(1e-4, 1e7)
    return maps, value


def _monomials(level: Level, degree: int) -> Tensor:
    """Return the monomials of each pixel's point, up to ``degree``: ``(h w, K)``."""
    x, y = level.frame.points.flatten(2)[0]
    return torch.stack([x**a * y**b for a, b in _MONOMIALS if a + b <= degree], dim=1)


def _normal_equations(level: Level, compared: Comparison, monomials: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the Gauss-Newton hessian ``(N, P, P)`` and gradient ``(N, P)`` for the first P = ``count`` numbers.

    Both are sums over pixels of derivatives times monomials of the point, since those are the derivatives of positions.
    """
    second, first = level.normal_equations(compared)
    known = 3 if count == 6 else 6
    products = (second.flatten(2) @ monomials)[:, :, torch.tensor(_PRODUCTS)[:known, :known]]
    x, y = monomials.new_tensor(_DERIVATIVES)[:, :count, :known] * level.frame.scale.view(2, 1, 1)
    xx, xy, yy = products.unbind(1)
    mixed = x @ xy @ y.T
    along_x, along_y = (first.flatten(2) @ monomials[:, :known]).unbind(1)
    return x @ xx @ x.T + mixed + mixed.mT + y @ yy @ y.T, along_x @ x.T + along_y @ y.T
