"""Choose the best of several fitted maps and decide whether to accept it, with one measure for all candidates.

Correlation alone does not separate wrong maps from right ones, as the search maximises it over many hypotheses. A right
map also beats its neighbours in *every* part of the overlap, and all distant shifts by far. A logistic model turns this
evidence into a confidence; ``python -m utils.evaluation.calibration`` fits its constants.
"""

import math
from dataclasses import astuple, dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from models.registration.affine import align
from models.registration.descriptors import Level, Picture
from models.registration.search import shift_correlations
from models.warping import pixel_grid

_SIDE, _COARSE_SIDE = 320, 160
_BLOCKS, _RING = 8, 6.0  # blocks along the longer side; distance of the neighbours in pixels
_REACH, _PEAK = 0.2, 6  # distant shifts: the largest (of the longer side) and the smallest (pixels)
# Weights of correlation, lead, support and the overlap's logarithm in the logistic model, fitted to 92 cases of train
# splits (:mod:`utils.evaluation.calibration`); docs/registration.md has error rates.
_WEIGHTS, _BIAS = (18.6, 1.34, 6.08, 1.27), -11.2
LIMIT = 0.7  # loses no right map of the train cases against 0.5
# Evidence of an ordinary accepted pair: about the medians of the sample's pairs and of cameras made from them, but a
# lead of 2.5, which is clear.
_ORDINARY = (0.33, 2.5, 0.83, 3.0)


@dataclass(frozen=True)
class Evidence:
    """Hold the evidence for a map: the normalised ``correlation`` of the descriptors; the ``lead`` over the best
    distant shift, in standard deviations of the distant shifts' correlations; the ``support``, the share of structure
    in blocks where the map beats all its neighbours; and the natural logarithm of the ``overlap`` in blocks.
    """

    correlation: float
    lead: float
    support: float
    overlap: float

    def confidence(self) -> float:
        """Return the probability in [0, 1] that the map is right; 0 where nothing could be compared."""
        values = astuple(self)
        if not all(math.isfinite(value) for value in values):
            return 0.0
        logit = _BIAS + sum(weight * value for weight, value in zip(_WEIGHTS, values))
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))

    def weakest(self) -> str:
        """Name the evidence that lowers the confidence most against that of an ordinary accepted pair."""
        lost = [weight * (usual - value) for weight, usual, value in zip(_WEIGHTS, _ORDINARY, astuple(self))]
        return fields(self)[lost.index(max(lost))].name


def weigh(ir: Picture, vi: Picture, map_: Tensor) -> Evidence:
    """Measure the evidence for a ``map_`` ``(3, 3)`` from VI's points to IR's."""
    level = align(ir, vi, map_[None], _SIDE, margin=_RING / _SIDE)
    compared = level.compare(level.frame.grid)
    support, blocks = _support(level)
    return Evidence(float(compared.correlation), _lead(ir, vi, map_), support, math.log(max(blocks, 1e-3)))


def _support(level: Level) -> tuple[float, float]:
    """Return the share of structure in blocks where no neighbouring shift is better, and the overlap in blocks."""
    angles = torch.arange(8, device=level.vi.device) * (math.pi / 4)
    ring = _RING * torch.stack((angles.cos(), angles.sin()), dim=1)
    shifts = torch.cat((torch.zeros_like(ring[:1]), ring)).view(-1, 2, 1, 1)
    ir, mask = level.ir_at(pixel_grid(*level.vi.shape[-2:], like=level.vi) + shifts)
    mask = (mask * level.vi_mask).amin(0, keepdim=True)
    size = math.ceil(max(mask.shape[-2:]) / _BLOCKS)

    def blocks(x: Tensor) -> Tensor:
        return F.avg_pool2d(x * mask, size, ceil_mode=True, count_include_pad=False)[:, 0]

    product = blocks((ir * level.vi).sum(1, keepdim=True))
    energy = blocks(level.vi.square().sum(1, keepdim=True))[0]
    value = product / blocks(ir.square().sum(1, keepdim=True)).clamp(min=1e-6).sqrt()
    supported = (value[0] > value[1:].amax(0)).to(energy.dtype)
    overlap = float(mask.sum()) / size**2
    return float((supported * energy).sum() / energy.sum().clamp(min=1e-6)), overlap


def _lead(ir: Picture, vi: Picture, map_: Tensor) -> float:
    """Return the lead of :class:`Evidence`; -inf where no distant shift leaves enough overlap."""
    level = align(ir, vi, map_[None], _COARSE_SIDE)
    value, reach = shift_correlations(level, level.ir, level.ir_mask, _REACH)
    shift = (pixel_grid(*value.shape[-2:], like=value)[0] - reach).norm(dim=0)
    near, far = value[0][shift <= 1.5], value[0][(shift > _PEAK) & torch.isfinite(value[0])]
    if len(far) < 2:
        return -math.inf
    return float((near.max() - far.max()) / far.std().clamp(min=1e-6))
