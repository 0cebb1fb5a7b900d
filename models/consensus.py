"""The affine map that most of a flow agrees on: what a matcher finds in many places at once, it finds well."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.forms import has_forms
from models.warping import pixel_grid

State = tuple[Tensor, Tensor]  # robust weights (B, 1, N), and map (B, 2, 3) in units of half the longer side

_SPACING = 8  # the fit uses every 8th pixel along each axis
_RIDGE = 1e-6  # keeps the fit defined where no vector counts
# The prior of the map counts as much as this share of all vectors, unless the linear part differs from a rotation by
# more than about the tolerance (a scale by 1.5 % along both axes differs by 0.021).
_PRIOR = 0.1
_TOLERANCE = 0.02
# The iterations: the error, in pixels of an image 640 px long, beyond which a flow vector counts little, and the prior.
# From coarse to fine, so that the fit starts from all vectors and ends with those that agree; only these are asked
# whether the map is more than a turn and a shift.
_FINEST = 3.0
_ITERATIONS = (*((80 * 0.8**k, 0.0) for k in range(15)), *[(_FINEST, _PRIOR)] * 9)


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
        kept = _robust_weight(rest.square().sum(dim=1, keepdim=True), _FINEST * max(height, width) / 640)
        return affine + local * kept * rest


def affine_part(flow: Tensor, weight: Tensor) -> Tensor:
    """Return the affine map that most of ``flow`` ``(B, 2, H, W)``, float32, agrees on: ``(B, 2, 3)``, which takes
    1, x and y, positions from the centre in units of half the longer side, to displacements in pixels.

    ``weight`` ``(B, 1, H, W)`` in [0, 1] tells which vectors count. The map minimises the sum of
    ``r^2 / (1 + r^2 / s^2)`` over the distances r between map and flow (Geman-McClure), by iteratively reweighted least
    squares with a falling scale s. A prior prefers maps that turn and shift, since two images of one scene seldom
    differ in scale or by shear: a ridge pulls the linear part towards the nearest rotation, robustly too, so that an
    image that is clearly larger or smaller is left so.
    """
    half = max(flow.shape[-2:]) / 2
    points, vectors, counts = (_thinned(field) for field in (_terms(flow), flow / half, weight.float()))
    linear = torch.diag((torch.arange(3, device=flow.device) > 0).float())

    def step(state: State, scale: float | Tensor, prior: float | Tensor) -> State:
        robust, matrix = state
        weighted = robust * points
        strength, rotation = _turned(matrix)
        strength = prior * strength * counts.sum(dim=2, keepdim=True)
        normal = weighted @ points.mT + strength * linear
        moments = vectors @ weighted.mT + strength * rotation
        matrix = _solve(normal, moments)
        error = (matrix @ points - vectors).square().sum(dim=1, keepdim=True)
        return counts * _robust_weight(error, scale / 320), matrix

    # len(flow) would fix the batch of an export.
    return half * iterate(step, (counts, points.new_zeros(flow.shape[0], 2, 3)), _ITERATIONS)[1]


@has_forms
def iterate(step: Callable[..., State], state: State, settings: Sequence[tuple[float, float]]) -> State:
    """Apply ``step(state, *setting)`` to the ``state`` for each of the ``settings``, one after the other."""
    for setting in settings:
        state = step(state, *setting)
    return state


def _terms(flow: Tensor) -> Tensor:
    """Return 1, x and y of each pixel, ``(1, 3, H, W)``."""
    height, width = flow.shape[-2:]
    longer = max(height, width)
    grid = pixel_grid(height, width, like=flow)
    x, y = (2 * grid[:, :1] + 1 - width) / longer, (2 * grid[:, 1:] + 1 - height) / longer
    return torch.cat((torch.ones_like(x), x, y), dim=1)


def _thinned(field: Tensor) -> Tensor:
    return field[:, :, _SPACING // 2 :: _SPACING, _SPACING // 2 :: _SPACING].flatten(2)


def _robust_weight(squared: Tensor, scale: float | Tensor) -> Tensor:
    return (1 + squared / scale**2) ** -2


def _turned(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return how nearly ``matrix`` ``(B, 2, 3)`` is a rotation, ``(B, 1, 1)`` in (0, 1], and the nearest rotation."""
    xx, xy, yx, yy = matrix[:, :, 1:].flatten(1).unbind(dim=1)  # of the displacement
    cos, sin = 2 + xx + yy, yx - xy
    length = (cos.square() + sin.square()).sqrt()
    cos, sin = cos / length - 1, sin / length
    squared = (xx - cos).square() + (xy + sin).square() + (yx - sin).square() + (yy - cos).square()
    zero = torch.zeros_like(cos)
    rotation = torch.stack((zero, cos, -sin, zero, sin, cos), dim=1).unflatten(1, (2, 3))
    return _robust_weight(squared, _TOLERANCE).view(-1, 1, 1), rotation


def _solve(normal: Tensor, moments: Tensor) -> Tensor:
    """Return ``moments @ inverse(normal)`` for symmetric ``normal`` ``(B, 3, 3)``; in this form it exports to ONNX."""
    normal = normal + _RIDGE * torch.eye(3, device=normal.device)
    a, b, c = normal.unbind(dim=1)
    columns = torch.stack((_cross(b, c), _cross(c, a), _cross(a, b)), dim=2)
    determinant = (a * columns[:, :, 0]).sum(dim=1).view(-1, 1, 1)
    return moments @ columns / determinant


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a.roll(-1, 1) * b.roll(-2, 1) - a.roll(-2, 1) * b.roll(-1, 1)
