"""The affine map that most of a flow agrees on: what a matcher finds in many places at once, it finds well."""

import torch
from torch import Tensor

from models.warping import pixel_grid

_SPACING = 8  # the fit uses every 8th pixel along each axis
# Errors, in pixels of an image 640 px long, beyond which a flow vector counts little; from coarse to fine, so that the
# fit starts from all vectors and ends with those that agree.
_SCALES = (*(80 * 0.8**k for k in range(15)), 3.0, 3.0, 3.0)
_RIDGE = 1e-6  # keeps the fit defined where no vector counts


def affine_consensus(flow: Tensor, weight: Tensor, local: float) -> Tensor:
    """Return the affine map that most of ``flow`` ``(B, 2, H, W)`` agrees on, plus a share ``local`` of what is left.

    The rest of the flow, beyond :func:`affine_part`, is multiplied by ``local`` and by its robust weight
    ``1 / (1 + r^2 / s^2)^2``: where a matcher errs by as much as the true local displacement, the best estimate of it
    is a share of what was found, and nothing of what agrees with nothing. Computed in float32; same shape.
    """
    with torch.autocast(flow.device.type, enabled=False):
        flow = flow.float()
        height, width = flow.shape[-2:]
        affine = (affine_part(flow, weight) @ _terms(flow).flatten(2)).unflatten(2, (height, width))
        rest = flow - affine
        kept = _robust_weight(rest.square().sum(dim=1, keepdim=True), _SCALES[-1] * max(height, width) / 640)
        return affine + local * kept * rest


def affine_part(flow: Tensor, weight: Tensor) -> Tensor:
    """Return the affine map that most of ``flow`` ``(B, 2, H, W)``, float32, agrees on: ``(B, 2, 3)``, which takes
    1, x and y, positions from the centre in units of half the longer side, to displacements in pixels.

    ``weight`` ``(B, 1, H, W)`` in [0, 1] tells which vectors count. The map minimises the sum of
    ``r^2 / (1 + r^2 / s^2)`` over the distances r between map and flow (Geman-McClure), by iteratively reweighted least
    squares with a falling scale s.
    """
    longer = max(flow.shape[-2:])
    points, vectors, counts = (_thinned(field) for field in (_terms(flow), flow, weight.float()))
    robust = counts
    for scale in _SCALES:
        weighted = robust * points
        matrix = _solve(weighted @ points.mT, vectors @ weighted.mT)
        error = (matrix @ points - vectors).square().sum(dim=1, keepdim=True)
        robust = counts * _robust_weight(error, scale * longer / 640)
    return matrix


def _terms(flow: Tensor) -> Tensor:
    """Return 1, x and y of each pixel, ``(1, 3, H, W)``."""
    height, width = flow.shape[-2:]
    longer = max(height, width)
    grid = pixel_grid(height, width, like=flow)
    x, y = (2 * grid[:, :1] + 1 - width) / longer, (2 * grid[:, 1:] + 1 - height) / longer
    return torch.cat((torch.ones_like(x), x, y), dim=1)


def _thinned(field: Tensor) -> Tensor:
    return field[:, :, _SPACING // 2 :: _SPACING, _SPACING // 2 :: _SPACING].flatten(2)


def _robust_weight(squared: Tensor, scale: float) -> Tensor:
    return (1 + squared / scale**2) ** -2


def _solve(normal: Tensor, moments: Tensor) -> Tensor:
    """Return ``moments @ inverse(normal)`` for symmetric ``normal`` ``(B, 3, 3)``; in this form it exports to ONNX."""
    normal = normal + _RIDGE * torch.eye(3, device=normal.device)
    a, b, c = normal.unbind(dim=1)
    columns = torch.stack((_cross(b, c), _cross(c, a), _cross(a, b)), dim=2)
    determinant = (a * columns[:, :, 0]).sum(dim=1).view(-1, 1, 1)
    return moments @ columns / determinant


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a.roll(-1, 1) * b.roll(-2, 1) - a.roll(-2, 1) * b.roll(-1, 1)
