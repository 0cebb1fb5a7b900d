"""Estimate the smooth displacement that remains after an affine map, by maximum a posteriori. Nothing is learnt.

The prior models the displacement as Gaussian-filtered white noise on a grid of cells. The log-likelihood is
proportional to the correlation of the structural descriptors. Gauss-Newton maximises their sum; the displacement stays
zero where the images constrain nothing. As displacements are smooth, descriptor derivatives are summed over cells, and
the leading eigenfunctions of the prior's covariance are the basis: a step solves one linear system with two unknowns
per function.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.registration.descriptors import Comparison, Level

_CELLS = 40  # along the longer side
# Of displacements, in longer sides: the sigma of the Gaussian and the root mean square along each axis.
_REACH, _SIZE = 0.057, 0.0019
_TRUST = 3000.0  # log-likelihood per unit of correlation
_FUNCTIONS = 200  # the truncated ones hold 0.02 % of the variance
_ITERATIONS = 4
_ENOUGH = 0.3  # stop when a step changes the log-posterior by less


def elastic(level: Level, start: Tensor) -> Tensor:
    """Estimate the displacement ``(1, 2, h, w)``, in pixels of ``level``, to add to ``start`` ``(1, 2, h, w)``, the
    initial positions of VI's pixels in IR.
    """
    return _upsample(elastic_cells(level, start), level)


def elastic_cells(level: Level, start: Tensor) -> Tensor:
    """Estimate as :func:`elastic`, on the cells ``(1, 2, rows, columns)`` that are interpolated bicubically."""
    height, width = level.vi.shape[-2:]
    longer = max(height, width)
    cells = (max(1, round(_CELLS * height / longer)), max(1, round(_CELLS * width / longer)))
    spread = _SIZE * longer * leading_functions(cells, start)

    def displacement(noise: Tensor) -> Tensor:
        return (noise @ spread.T).view(1, 2, *cells)

    def evaluate(noise: Tensor) -> tuple[Comparison, Tensor]:
        compared = level.compare(start + _upsample(displacement(noise), level))
        return compared, _TRUST * compared.correlation - noise.square().sum() / 2

    noise = start.new_zeros(2, spread.shape[1])
    compared, value = evaluate(noise)
    length = 1.0
    for _ in range(_ITERATIONS):
        second, first = (
            _TRUST / compared.energy.clamp(min=1e-6) * _sum_cells(x, cells) for x in level.normal_equations(compared)
        )
        xx, xy, yy = (spread.T @ (diagonal[:, None] * spread) for diagonal in second)
        hessian = torch.cat((torch.cat((xx, xy), dim=1), torch.cat((xy, yy), dim=1)))
        hessian.diagonal().add_(1)
        gradient = (first @ spread + noise).flatten()
        proposal = noise - length * torch.linalg.solve(hessian, gradient).view_as(noise)
        proposed, new_value = evaluate(proposal)
        gain = float(new_value - value)
        if gain > 0:
            noise, compared, value = proposal, proposed, new_value
        else:
            length /= 2
        if abs(gain) < _ENOUGH:
            break
    return displacement(noise)


def _upsample(cells: Tensor, level: Level) -> Tensor:
    return F.interpolate(cells, tuple(level.vi.shape[-2:]), mode="bicubic", align_corners=False)


def leading_functions(cells: tuple[int, int], like: Tensor) -> Tensor:
    """Return the leading functions ``(h * w, N)`` of the prior's covariance on h x w cells, for a unit displacement.

    White noise of N numbers times them has that covariance (Karhunen and Loeve), which is separable.
    """
    (y, along_y), (x, along_x) = (torch.linalg.eigh(_gaussian(n, like)) for n in cells)
    deviations = (y[:, None] * x).flatten()
    kept = deviations.abs().topk(min(_FUNCTIONS, len(deviations))).indices
    row, column = kept // len(x), kept % len(x)
    return deviations[kept] * (along_y[:, row][:, None] * along_x[:, column][None]).flatten(0, 1)


def _gaussian(count: int, like: Tensor) -> Tensor:
    """Return the matrix ``(count, count)`` of a Gaussian filter along a row of cells that preserves noise variance."""
    reach = _REACH * _CELLS
    distance = torch.arange(-4 * _CELLS, 4 * _CELLS + 1, device=like.device, dtype=like.dtype)
    norm = torch.exp(-(distance / reach).square() / 2).square().sum().sqrt()
    place = torch.arange(count, device=like.device, dtype=like.dtype)
    return torch.exp(-((place[:, None] - place) / reach).square() / 2) / norm


def _sum_cells(x: Tensor, cells: tuple[int, int]) -> Tensor:
    """Sum ``(1, C, h, w)`` over cells, ``(C, cells)``."""
    return F.adaptive_avg_pool2d(x, cells)[0].flatten(1) * (x.shape[-2] * x.shape[-1] / (cells[0] * cells[1]))
