"""Refine an affine map by the smooth displacement of highest posterior probability, given structural descriptors.

The prior is a Gaussian process: the displacement is white noise, one value per cell of a grid and axis, filtered by a
Gaussian. The log-likelihood is proportional to the correlation of the descriptors. Gauss-Newton maximises the sum of
the two; without structure in the images the displacement stays 0. As displacements are smooth, the derivatives of the
descriptors are summed over cells, and a step solves one linear system of two unknowns per cell.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.registration.descriptors import Comparison, Level

_CELLS = 40  # along the longer side
# The prior, in units of the longer side: sigma of the Gaussian, and the displacement's standard deviation on each axis.
_SIGMA, _DEVIATION = 0.057, 0.0019
_LOG_LIKELIHOOD = 3000.0  # of a correlation of 1
_ITERATIONS = 6


def elastic(level: Level, start: Tensor) -> Tensor:
    """Estimate the displacement ``(1, 2, h, w)``, in pixels of ``level``, to be added to ``start``.

    ``start`` ``(1, 2, h, w)`` holds the position in IR of each of VI's pixels under the affine map.
    """
    size, longer = tuple(level.vi.shape[-2:]), max(level.vi.shape[-2:])
    rows, columns = (max(1, round(_CELLS * n / longer)) for n in size)
    cells = rows, columns
    spread = _DEVIATION * longer * torch.kron(*(_gaussian(n, start) for n in cells))

    def displacement(noise: Tensor) -> Tensor:
        return F.interpolate((noise @ spread.T).view(1, 2, *cells), size, mode="bicubic", align_corners=False)

    def evaluate(noise: Tensor) -> tuple[Comparison, Tensor]:
        compared = level.compare(start + displacement(noise))
        return compared, _LOG_LIKELIHOOD * compared.correlation - noise.square().sum() / 2

    noise = start.new_zeros(2, cells[0] * cells[1])
    compared, value = evaluate(noise)
    for _ in range(_ITERATIONS):
        second, first = (
            _LOG_LIKELIHOOD / compared.energy.clamp(min=1e-6) * _sum_cells(x, cells)
            for x in level.normal_equations(compared)
        )
        xx, xy, yy = (spread.T @ (diagonal[:, None] * spread) for diagonal in second)
        hessian = torch.cat((torch.cat((xx, xy), dim=1), torch.cat((xy, yy), dim=1)))
        hessian.diagonal().add_(1)
        gradient = (first @ spread + noise).flatten()
        proposal = noise - torch.linalg.solve(hessian, gradient).view_as(noise)
        proposed, new_value = evaluate(proposal)
        if not new_value > value:
            break
        noise, compared, value = proposal, proposed, new_value
    return displacement(noise)


def _gaussian(count: int, like: Tensor) -> Tensor:
    """The matrix ``(count, count)`` of a Gaussian filter along a row of cells that leaves white noise its variance."""
    sigma = _SIGMA * _CELLS
    distance = torch.arange(-4 * _CELLS, 4 * _CELLS + 1, device=like.device, dtype=like.dtype)
    norm = torch.exp(-(distance / sigma).square() / 2).square().sum().sqrt()
    place = torch.arange(count, device=like.device, dtype=like.dtype)
    return torch.exp(-((place[:, None] - place) / sigma).square() / 2) / norm


def _sum_cells(x: Tensor, cells: tuple[int, int]) -> Tensor:
    """Sums of ``(1, C, h, w)`` over cells, ``(C, cells)``."""
    return F.adaptive_avg_pool2d(x, cells)[0].flatten(1) * (x.shape[-2] * x.shape[-1] / (cells[0] * cells[1]))
