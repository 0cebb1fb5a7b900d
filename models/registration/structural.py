"""Registration without training: fit an affine map to structural descriptors of IR and VI, then a smooth displacement.

An exhaustive search over rotations and translations gives hypotheses; damped Gauss-Newton refines the best of them into
affine maps, coarse to fine. Both maximise ``NCC(descriptors) - penalty(map)``: the normalised correlation of the
descriptors, less the penalty of a Gaussian prior on the map, which favours shifts and rotations over changes of scale
and shear. Last comes a smooth displacement (:mod:`models.registration.elastic`).

An affine map is a ``(N, 2, 3)`` tensor that takes points of the VI frame to points of the IR image, both measured
from the image's centre in units of half its longer side, so that it is the same at every scale.
"""

import math

import torch
from torch import Tensor

from models.registration.descriptors import SMALLEST_OVERLAP, Comparison, Frame, Level, correlation, make_level
from models.registration.elastic import elastic
from models.results import Registration, check_pair
from models.warping import content_mask, resize_flow
from utils.colour import luminance

_ROTATION_STEP = 3.0  # degrees; the fit bridges half of it with ease
_STARTS = 4
_ITERATIONS = 12
_AFFINE_SIDES, _ELASTIC_SIDE = (160, 320), 640  # the longer sides in pixels of the scales, coarse to fine
# The prior's penalty, in units of correlation, is a weight times a square: of the change of scale and of the shear, and
# of the shift (in half longer sides) and the rotation (in radians). 2 % of scale cost 0.012, 7 degrees 0.015.
_SHAPE_WEIGHT, _RIGID_WEIGHT = 30.0, 1.0
# Linear forms that give, from the six numbers of a map: scale x cos and scale x sin of the rotation, the two shears,
# and the shift.
_LINEAR_FORMS = (
    (0.5, 0, 0, 0, 0.5, 0),
    (0, -0.5, 0, 0.5, 0, 0),
    (0.5, 0, 0, 0, -0.5, 0),
    (0, 0.5, 0, 0.5, 0, 0),
    (0, 0, 1, 0, 0, 0),
    (0, 0, 0, 0, 0, 1),
)


def prior_residuals(affine: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals ``(N, 6)`` of the prior on N maps ``(N, 2, 3)``, and their Jacobians ``(N, 6, 6)``.

    The penalty of a map is the sum of its squared residuals; it is 0 for the identity.
    """
    weights = [_SHAPE_WEIGHT, _RIGID_WEIGHT, _SHAPE_WEIGHT, _SHAPE_WEIGHT, _RIGID_WEIGHT, _RIGID_WEIGHT]
    root, forms = affine.new_tensor(weights).sqrt(), affine.new_tensor(_LINEAR_FORMS)
    values, jacobian = affine.flatten(1) @ forms.T, forms.repeat(len(affine), 1, 1)
    cosine, sine = values[:, :1], values[:, 1:2]
    scale = torch.hypot(cosine, sine)
    values = torch.cat((scale - 1, values[:, 1:]), dim=1)
    jacobian[:, 0] = (cosine * forms[0] + sine * forms[1]) / scale
    return root * values, root[:, None] * jacobian


def penalty(affine: Tensor) -> Tensor:
    """The prior's penalty ``(N,)``, in units of correlation, of N maps ``(N, 2, 3)``."""
    return prior_residuals(affine)[0].square().sum(1)


def search(level: Level, rotation: float, translation: float) -> Tensor:
    """Hypotheses ``(N, 2, 3)``, best first: the best translation for each rotation, and the identity.

    Rotations reach ``rotation`` degrees to either side, translations ``translation`` of the longer side, in steps of
    a pixel. All translations of one rotation are correlated at once by FFT, overlap and energies included.
    """
    steps = math.ceil(rotation / _ROTATION_STEP)
    angles = torch.linspace(-rotation, rotation, 2 * steps + 1, device=level.vi.device).deg2rad()
    linear = torch.stack((angles.cos(), -angles.sin(), angles.sin(), angles.cos()), dim=1).view(-1, 2, 2)
    ir, ir_mask = level.ir_at(level.frame.pixels(torch.cat((linear, torch.zeros_like(linear[:, :, :1])), dim=2)))
    vi, vi_mask = level.vi, level.vi_mask

    height, width = vi.shape[-2:]
    reach = math.ceil(translation * max(height, width))
    padded = (height + reach, width + reach)  # keeps shifts up to the reach from wrapping around

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        """Sum over channels and pixels p of ``a(p + t) b(p)``; t = -reach .. reach along y and x."""
        spectrum = (torch.fft.rfft2(a, padded) * torch.fft.rfft2(b, padded).conj()).sum(1)
        shifted = torch.fft.irfft2(spectrum, padded).roll((reach, reach), (-2, -1))
        return shifted[:, : 2 * reach + 1, : 2 * reach + 1]

    value = correlation(
        correlate(ir * ir_mask, vi * vi_mask),
        correlate(ir.square().sum(1, keepdim=True) * ir_mask, vi_mask),
        correlate(ir_mask, vi.square().sum(1, keepdim=True) * vi_mask),
        correlate(ir_mask, vi_mask),
        vi_mask.sum() * SMALLEST_OVERLAP,
    )
    best, index = value.flatten(1).max(dim=1)
    shift = torch.stack((index % (2 * reach + 1), index // (2 * reach + 1)), dim=1) - reach
    shift = linear @ (shift[:, :, None] / level.frame.scale.view(1, 2, 1))
    identity = torch.eye(2, 3, device=linear.device)[None]
    candidates = torch.cat((identity, torch.cat((linear, shift), dim=2)))
    best = torch.cat((value[steps, reach, reach][None], best)) - penalty(candidates)
    return candidates[best.argsort(descending=True, stable=True)]


def fit(level: Level, affine: Tensor) -> tuple[Tensor, Tensor]:
    """Refine N maps ``(N, 2, 3)`` by damped Gauss-Newton; returns them and their values ``(N,)``.

    The value is the correlation less the prior's penalty.
    """
    points, scale = level.frame.points, level.frame.scale
    basis = torch.cat((points, torch.ones_like(points[:, :1])), dim=1).flatten(2)[0]
    products = (basis[:, None] * basis[None]).flatten(0, 1)
    damping = affine.new_full((len(affine), 1, 1), 1e-3)

    def evaluate(affine: Tensor) -> tuple[Comparison, Tensor]:
        compared = level.compare(level.frame.pixels(affine))
        return compared, compared.correlation - penalty(affine)

    compared, value = evaluate(affine)
    for _ in range(_ITERATIONS):
        second, first = level.normal_equations(compared)
        x, y = scale[:, :1], scale[:, 1:]
        second, first = second * torch.cat((x * x, x * y, y * y), dim=1), first * scale
        xx, xy, yy = (second.flatten(2) @ products.T).view(-1, 3, 3, 3).unbind(1)
        hessian = torch.cat((torch.cat((xx, xy), dim=2), torch.cat((xy, yy), dim=2)), dim=1)
        gradient = (first.flatten(2) @ basis.T).view(-1, 6)
        residuals, jacobian = prior_residuals(affine)
        gradient = gradient + compared.energy[:, None] * (jacobian.mT @ residuals[:, :, None])[:, :, 0]
        hessian = hessian + compared.energy[:, None, None] * (jacobian.mT @ jacobian)
        damped = hessian + damping * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
        damped = damped + 1e-9 * torch.eye(6, device=hessian.device)  # no structure, no step
        proposal = affine - torch.linalg.solve(damped, gradient).view_as(affine)

        proposed, new_value = evaluate(proposal)
        better = new_value > value
        affine = torch.where(better.view(-1, 1, 1), proposal, affine)
        compared, value = proposed.where(better, compared), torch.where(better, new_value, value)
        damping = torch.where(better.view(-1, 1, 1), damping / 3, damping * 10).clamp(1e-7, 1e7)
    return affine, value


class StructuralRegistrar:
    """Registration with the interface of :meth:`models.superfusion.SuperFusion.register`; nothing is learnt.

    ``rotation`` (degrees) and ``translation`` (share of the longer side) bound the search; the fit may go beyond.
    """

    def __init__(self, rotation: float = 12.0, translation: float = 0.08):
        self.rotation, self.translation = rotation, translation

    @torch.no_grad()
    def register(self, ir: Tensor, vi: Tensor) -> Registration:
        """Register ``ir`` to ``vi``, both ``(B, 1 or 3, H, W)`` in [0, 1], on any device.

        ``agreement`` is the normalised correlation of the descriptors that the affine map reached, less the penalty of
        its prior, at most 1. Raises ValueError for other sizes.
        """
        check_pair(ir, vi)
        pairs = zip(luminance(ir).split(1), luminance(vi).split(1))
        flow, agreement = (torch.cat(parts) for parts in zip(*(self._flow(*pair) for pair in pairs)))
        return Registration.by_flow(ir, flow, agreement)

    def _flow(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        contents = content_mask(ir), content_mask(vi)
        coarse, *finer = (make_level(ir, vi, *contents, side) for side in _AFFINE_SIDES)
        affine, value = fit(coarse, search(coarse, self.rotation, self.translation)[:_STARTS])
        affine, value = affine[value.argmax()][None], value.max()[None]
        for level in finer:
            affine, value = fit(level, affine)
        size = tuple(vi.shape[-2:])
        whole, finest = Frame(size, size, vi), make_level(ir, vi, *contents, _ELASTIC_SIDE)
        displacement = elastic(finest, finest.frame.pixels(affine))
        return whole.pixels(affine) - whole.grid + resize_flow(displacement, size), value
