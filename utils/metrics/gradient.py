"""Edge transfer from the sources to the fused image: Qabf (preserved edges) and Nabf (artifacts, invented edges).

Images: ``(H, W)`` float64 of whole numbers 0..255. Both metrics test whether a difference is exactly 0 and whether two
edge strengths are equal, so they need whole-number Sobel differences; for images in [0, 1] rounding would decide.
Qabf: Xydeas and Petrovic, Electronics Letters, 2000. Nabf: Petrovic and Xydeas, ICIP, 2005, as modified by
Shreyamsha Kumar, Signal Image and Video Processing, 2013.
"""

import math

import torch
from torch import Tensor

from utils.metrics.filters import ratio, sobel


def _sigmoid(x: Tensor, top: float, slope: float, centre: float) -> Tensor:
    return top * torch.sigmoid(slope * (x - centre))


def _edges_qabf(image: Tensor) -> tuple[Tensor, Tensor]:
    """Compute edge strength, and orientation in (-pi/2, pi/2], pi/2 where the horizontal difference is 0."""
    dx, dy = sobel(image, "constant")
    angle = torch.where(dx == 0, math.pi / 2, torch.atan(-dy / dx))
    return (dx**2 + dy**2).sqrt(), angle


def edge_preservation(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Qabf: preserved share of the sources' edges, weighted by their strength; 0 where the sources have none."""
    strength_f, angle_f = _edges_qabf(fused)
    kept = total = fused.new_zeros(())
    for source in (ir, vi):
        strength, angle = _edges_qabf(source)
        similar = ratio(torch.minimum(strength, strength_f), torch.maximum(strength, strength_f))
        # Hong's code, the source of all published values, compares by ">" and uses the strength itself for equals.
        similar = torch.where(strength == strength_f, strength_f, similar)
        aligned = 1 - (angle - angle_f).abs() / (math.pi / 2)
        quality = _sigmoid(similar, 0.9994, 15, 0.5) * _sigmoid(aligned, 0.9879, 22, 0.8)
        kept, total = kept + (quality * strength).sum(), total + strength.sum()
    return ratio(kept, total)


def _edges_nabf(image: Tensor) -> tuple[Tensor, Tensor]:
    """Compute edge strength in gray levels, and orientation in [-pi/2, pi/2] (0 where there is no edge)."""
    dx, dy = sobel(image, "reflect")
    angle = torch.where((dx == 0) & (dy == 0), 0.0, torch.atan(dx / dy))
    return (dx**2 + dy**2).sqrt() / 8, angle


def _artifacts(ir: Tensor, vi: Tensor, fused: Tensor, strong: float) -> Tensor:
    """Compute the share of edges lost where the fused image's edge exceeds both sources'.

    Edges of at least ``strong`` gray levels have weight strength^1.5, all others 0.001.
    """
    strength_f, angle_f = _edges_nabf(fused)
    lost = total = fused.new_zeros(())
    invented = torch.ones_like(strength_f, dtype=torch.bool)
    for source in (ir, vi):
        strength, angle = _edges_nabf(source)
        similar = ratio(torch.minimum(strength, strength_f), torch.maximum(strength, strength_f))
        aligned = ((angle - angle_f).abs() - math.pi / 2).abs() * (2 / math.pi)
        quality = (_sigmoid(similar, 0.9999, 19, 0.5) * _sigmoid(aligned, 0.9995, 22, 0.5)).sqrt()
        weight = torch.where(strength >= strong, strength**1.5, 0.001)
        lost, total = lost + (1 - quality) * weight, total + weight.sum()
        invented &= strength_f > strength
    return lost[invented].sum() / total


def artifacts(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Nabf: 0 (no invented edge) to 1; lower is better."""
    return _artifacts(ir, vi, fused, strong=2)


def artifacts_equal_weights(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Nabf as printed in 2022: images in [0, 1] never reach the threshold of strong edges, so all weights are equal.

    Printed values also contain rounding noise of flat areas, so they agree only to about 0.01.
    """
    return _artifacts(ir, vi, fused, strong=math.inf)
