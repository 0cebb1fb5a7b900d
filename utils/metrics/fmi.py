"""FMI: feature mutual information between the fused image and both sources, over all 3x3 windows of a feature map.

Haghighat and Razian, "Fast-FMI", AICT, 2014. The features of a window, stretched to [0, 1] and divided by their sum,
are taken for a distribution over its nine positions. The joint distribution of two windows is modelled as a mixture of
independence and the Frechet bound (comonotone for positively correlated windows, countermonotone for others), with the
weight phi of the bound chosen to match the observed correlation. The score of a window pair is its mutual information
divided by the mean of its entropies; the metric is the mean over all windows and both sources.

Images: ``(H, W)`` float64 of whole numbers 0..255, at least 3 pixels on each side.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.metrics.filters import ratio
from utils.metrics.fmi_features import dct, edges, wavelet

# Window pairs per chunk, so that a float32 table of joint probabilities (9, 9, n) is about the size of the cache. Not a
# power of two, which would map all rows of a table to the same cache sets.
_CHUNK = 5000

_BINS = 9


def _nlogn(p: Tensor) -> Tensor:
    """Return ``p log|p|``, 0 at 0; clamped to normal float32, since logarithms of subnormals are ten times slower."""
    return p.abs().clamp_(min=1e-30).log_().mul_(p)


def _distribution(windows: Tensor) -> Tensor:
    """Convert windows ``(9, n)``, none of them flat, to distributions ``(9, n)`` float32."""
    above = windows - windows.amin(0)
    return (above / above.sum(0)).float()


def _spread(p: Tensor) -> Tensor:
    """Compute the standard deviation ``(n,)`` of the position 1..9 under ``p``."""
    position = torch.arange(_BINS, device=p.device, dtype=p.dtype)[:, None]
    return (p * (position - (p * position).sum(0)) ** 2).sum(0).sqrt()


def window_information(source: Tensor, fused: Tensor) -> Tensor:
    """Score n pairs of 3x3 windows ``(9, n)``, none of them flat, in column-major order; returns ``(n,)``.

    Countermonotone pairs are turned into comonotone ones by reversing the source's positions, which changes
    neither an entropy nor a spread.
    """
    s, f = _distribution(source), _distribution(fused)
    s0, f0 = s - 1 / _BINS, f - 1 / _BINS
    pearson = (s0 * f0).sum(0) / ((s0 * s0).sum(0) * (f0 * f0).sum(0)).sqrt()
    s = torch.where(pearson < 0, s.flip(0), s)

    # Comonotone masses: position i covers the interval [F_i-1, F_i] of [0, 1], j covers [S_j-1, S_j]; their joint mass
    # is the overlap. The covariance, sum_ij min(F_i, S_j) - F_i S_j, is a sum of terms min(F_i, S_j) (1 - max(F_i,
    # S_j)).
    cdf_s, cdf_f = s.cumsum(0), f.cumsum(0)
    tail_s, tail_f = (p[1:].flip(0).cumsum(0).flip(0) for p in (s, f))
    upper = torch.minimum(cdf_f[:, None], cdf_s[None])
    covariance = (upper[:-1, :-1] * torch.minimum(tail_f[:, None], tail_s[None])).sum((0, 1))
    phi = ratio(pearson.abs() * _spread(s) * _spread(f), covariance)
    overlap = upper.sub_(torch.maximum((cdf_f - f)[:, None], (cdf_s - s)[None])).clamp_(min=0)
    joint = overlap.mul_(phi).addcmul_(((1 - phi) * f)[:, None], s[None])

    entropies = -_nlogn(s).sum(0) - _nlogn(f).sum(0)
    mutual = entropies + _nlogn(joint).sum((0, 1))
    return ratio(2 * mutual, entropies)


def _windows_all(mask: Tensor) -> Tensor:
    """Test whether all nine pixels of each 3x3 window of ``mask`` ``(H, W)`` are set: ``(H - 2, W - 2)``."""
    rows = mask[:-2] & mask[1:-1] & mask[2:]
    return rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]


def _flat_windows(feature: Tensor) -> Tensor:
    """Test whether the nine features of each window are equal: ``(H - 2, W - 2)``."""
    same_below, same_right = feature[:-1] == feature[1:], feature[:, :-1] == feature[:, 1:]
    below = same_below[:-1] & same_below[1:]
    right = same_right[:, :-1] & same_right[:, 1:]
    return below[:, :-2] & right[:-2] & right[1:-1] & right[2:]


def _source_information(source: Tensor, fused: Tensor) -> Tensor:
    """Average the score over all windows of two feature maps ``(H, W)``.

    Equal windows score 1. A flat window is a uniform distribution, without correlation: its pair scores 0.
    """
    equal = _windows_all(source == fused)
    scored = ~(equal | _flat_windows(source) | _flat_windows(fused))
    rows, columns = scored.nonzero(as_tuple=True)
    width = source.shape[1]
    corners = rows * width + columns
    steps = torch.arange(3, device=source.device)
    offsets = (steps[:, None] + steps * width).flatten()  # column-major: down the first column, then the next
    total = equal.sum().double()
    source, fused = source.flatten(), fused.flatten()
    for corner in corners.split(_CHUNK):
        pixels = offsets[:, None] + corner
        total = total + window_information(source[pixels], fused[pixels]).sum(dtype=torch.float64)
    return total / equal.numel()


def feature_information(ir: Tensor, vi: Tensor, fused: Tensor, feature: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute FMI for a ``feature`` that maps an image to a feature map."""
    target = feature(fused)
    return (_source_information(feature(ir), target) + _source_information(feature(vi), target)) / 2


def fmi_dct(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """FMI_dct: of the DCT of the whole image."""
    return feature_information(ir, vi, fused, dct)


def fmi_wavelet(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """FMI_w: of the discrete Meyer transform."""
    return feature_information(ir, vi, fused, wavelet)


def fmi_edges(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """FMI_pixel: of the thinned Sobel edges, despite the name, which is the field's."""
    return feature_information(ir, vi, fused, edges)
