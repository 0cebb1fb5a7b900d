"""What an affine map leaves: the most probable smooth displacement, given structural descriptors. Nothing is learnt.

The prior takes the displacement for white noise, one number a cell and axis, seen through a Gaussian. The images'
log-likelihood is taken to grow with the correlation of their descriptors. The sum of both is maximised by Gauss-Newton:
where the images say nothing, nothing moves. As displacements are smooth, the descriptors' derivatives are needed as
sums over cells only, and a step is the solution of one linear system of two numbers a cell.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.registration.descriptors import Comparison, Level

_CELLS = 40  # along the longer side
# Of displacements, in longer sides: the sigma of the Gaussian and the root mean square along each axis.
_REACH, _SIZE = 0.057, 0.0019
_TRUST = 3000.0  # the log-likelihood of a correlation of 1
_ITERATIONS = 6


def elastic(level: Level, start: Tensor) -> Tensor:
    """The displacement ``(1, 2, h, w)``, in pixels of ``level``, to be added to ``start`` ``(1, 2, h, w)``, where VI's
    pixels lie in IR as far as is known."""
    size, longer = tuple(level.vi.shape[-2:]), max(level.vi.shape[-2:])
    rows, columns = (max(1, round(_CELLS * n / longer)) for n in size)
    cells = rows, columns
    spread = _SIZE * longer * torch.kron(*(_gaussian(n, start) for n in cells))  # of each cell's noise over the cells

    def displacement(noise: Tensor) -> Tensor:
        return F.interpolate((noise @ spread.T).view(1, 2, *cells), size, mode="bicubic", align_corners=False)

    def evaluate(noise: Tensor) -> tuple[Comparison, Tensor]:
        compared = level.compare(start + displacement(noise))
        return compared, _TRUST * compared.correlation - noise.square().sum() / 2

    noise = start.new_zeros(2, cells[0] * cells[1])
    compared, value = evaluate(noise)
    for _ in range(_ITERATIONS):
        second, first = (
            _TRUST / compared.energy.clamp(min=1e-6) * _sum_cells(x, cells) for x in level.normal_equations(compared)
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
    reach = _REACH * _CELLS
    distance = torch.arange(-4 * _CELLS, 4 * _CELLS + 1, device=like.device, dtype=like.dtype)
    norm = torch.exp(-(distance / reach).square() / 2).square().sum().sqrt()
    place = torch.arange(count, device=like.device, dtype=like.dtype)
    return torch.exp(-((place[:, None] - place) / reach).square() / 2) / norm


def _sum_cells(x: Tensor, cells: tuple[int, int]) -> Tensor:
    """Sums of ``(1, C, h, w)`` over cells, ``(C, cells)``."""
    return F.adaptive_avg_pool2d(x, cells)[0].flatten(1) * (x.shape[-2] * x.shape[-1] / (cells[0] * cells[1]))
