"""Metrics from gray-level histograms: EN (entropy) and MI (mutual information), in bits.

Images: ``(H, W)`` float64 of whole numbers 0..255; one histogram bin per level.
Entropy of fused images: Roberts et al., J. Applied Remote Sensing, 2008. MI: Qu, Zhang, Yan, Electronics Letters, 2002.
"""

import torch
from torch import Tensor

LEVELS = 256


def histogram_entropy(symbols: Tensor, bins: int) -> Tensor:
    """Compute the Shannon entropy in bits of whole-number ``symbols`` in 0..bins-1."""
    counts = torch.bincount(symbols.flatten().long(), minlength=bins).double()
    return torch.special.entr(counts / counts.sum()).sum() / torch.log(counts.new_tensor(2.0))


def joint_entropy(x: Tensor, y: Tensor) -> Tensor:
    """Compute the joint entropy in bits of the levels of ``x`` and ``y``."""
    return histogram_entropy(x * LEVELS + y, LEVELS**2)


def entropy(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """EN: entropy of the fused image, 0 (constant) to 8 bits."""
    return histogram_entropy(fused, LEVELS)


def mutual_information(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """MI: I(ir; fused) + I(vi; fused) in bits, not normalised."""
    sources = histogram_entropy(ir, LEVELS) + histogram_entropy(vi, LEVELS)
    joint = joint_entropy(ir, fused) + joint_entropy(vi, fused)
    return sources + 2 * histogram_entropy(fused, LEVELS) - joint


def mutual_information_merged(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """MI as printed in 2022: levels 254 and 255 share a bin in the joint histograms, but not in the marginals.

    The MATLAB code behind those numbers indexes the joint histogram by a saturating uint8 "level + 1".
    """
    merged_ir, merged_vi, merged_fused = (x.clamp(max=254) for x in (ir, vi, fused))
    sources = histogram_entropy(ir, LEVELS) + histogram_entropy(vi, LEVELS)
    joint = joint_entropy(merged_ir, merged_fused) + joint_entropy(merged_vi, merged_fused)
    return sources + 2 * histogram_entropy(fused, LEVELS) - joint
