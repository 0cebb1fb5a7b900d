"""Feature maps for the feature mutual information: whole-image DCT, one-level wavelet transform, Sobel edges.

Images: ``(H, W)`` float64 of whole numbers 0..255. Both transforms are linear and separable, so each can be computed by
one matrix for the columns and one for the rows of an image: ``R @ image @ C.T``.
"""

import math

import torch
from scipy.fft import dctn
from torch import Tensor

from utils.metrics.dmey import HIGH_PASS, LOW_PASS
from utils.metrics.filters import pad, ratio, sobel


def _quantise(feature: Tensor, quantum: float) -> Tensor:
    """Round to multiples of ``quantum``, far above floating-point noise and far below visible differences.

    The features of a flat region are equal up to rounding, and each window is stretched to its own range: without
    quantisation the score of flat regions would be that of rounding noise.
    """
    return torch.round(feature / quantum) * quantum


def _dct_matrix(length: int, like: Tensor) -> Tensor:
    """Return the orthonormal DCT-II matrix ``(length, length)``: row k is the cosine of frequency k."""
    n = torch.arange(length, device=like.device, dtype=like.dtype)
    matrix = torch.cos(math.pi / length * n[:, None] * (n + 0.5)) * math.sqrt(2 / length)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct(image: Tensor) -> Tensor:
    """Compute the 2-D DCT-II of the image ``(H, W)``; on a GPU by matrices, since SciPy's transform needs the CPU."""
    if image.device.type == "cpu":
        spectrum = torch.from_numpy(dctn(image.numpy(), norm="ortho"))
    else:
        height, width = image.shape
        spectrum = _dct_matrix(height, image) @ image @ _dct_matrix(width, image).T
    return _quantise(spectrum, 2**-30)


def _wavelet_matrix(length: int, like: Tensor) -> Tensor:
    """Return the matrix of one level of dmey analysis, ``(2 m, length)``, m = (length + 61) // 2.

    Low-pass rows come first, then high-pass rows. The signal is extended by mirroring, with the end samples repeated.
    """
    filters = torch.tensor((LOW_PASS, HIGH_PASS), device=like.device, dtype=like.dtype)
    taps = filters.shape[1]
    # Downsampling keeps the odd outputs of the full convolution.
    positions = torch.arange(1, length + taps - 1, 2, device=like.device)
    sources = (positions[:, None] - torch.arange(taps, device=like.device)) % (2 * length)
    sources = torch.minimum(sources, 2 * length - 1 - sources)
    matrix = filters.new_zeros(2, len(positions), length)
    matrix.scatter_add_(2, sources.expand(2, -1, -1), filters[:, None].expand(2, len(positions), taps))
    return matrix.flatten(0, 1)


def wavelet(image: Tensor) -> Tensor:
    """Compute the one-level discrete Meyer transform, stretched to [0, 1], about ``(H + 61, W + 61)``.

    The subbands are arranged as ``[[approximation, horizontal detail], [vertical detail, diagonal detail]]``.
    """
    height, width = image.shape
    bands = _wavelet_matrix(height, image) @ image @ _wavelet_matrix(width, image).T
    m, n = bands.shape[0] // 2, bands.shape[1] // 2
    # The horizontal detail (low-pass along x, high-pass along y) is at the bottom left here and belongs at the top
    # right.
    left, right = torch.cat((bands[:m, :n], bands[:m, n:])), torch.cat((bands[m:, :n], bands[m:, n:]))
    bands = torch.cat((left, right), 1)
    low, high = bands.aminmax()
    return _quantise(ratio(bands - low, high - low), 2**-42)


def edges(image: Tensor) -> Tensor:
    """Detect thinned Sobel edges, 0 or 1, as MATLAB's ``edge`` does.

    An edge pixel has a squared strength above four times the mean, and a maximum of it across the edge (on ties the
    pixel to the right or below wins).
    """
    dx, dy = sobel(image, "replicate")
    strength = dx**2 + dy**2
    around = pad(strength, 1, "constant")  # neighbours outside never win: no edge has strength 0
    across_x = (dx.abs() >= dy.abs()) & (around[1:-1, :-2] <= strength) & (strength > around[1:-1, 2:])
    across_y = (dy.abs() >= dx.abs()) & (around[:-2, 1:-1] <= strength) & (strength > around[2:, 1:-1])
    return ((strength > 4 * strength.mean()) & (across_x | across_y)).to(image.dtype)
