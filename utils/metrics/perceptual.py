"""Metrics weighted by the eye's contrast sensitivity: Qcb (higher is better) and Qcv (lower is better).

Images: ``(H, W)`` float64 of whole numbers 0..255; each is stretched to 0..255 first.
Qcb: Chen and Blum, Image and Vision Computing, 2009. Qcv: Chen and Varshney, Information Fusion, 2007.
"""

import math

import torch
from torch import Tensor

from utils.metrics.filters import filter_valid, gaussian_taps, pad, ratio, sobel

_BLOCK = 16  # side of Qcv's regions in pixels


def _stretch(image: Tensor) -> Tensor:
    """Stretch gray levels linearly to 0..255, rounded (halves up); a constant image becomes 0."""
    low, high = image.aminmax()
    return torch.floor(ratio(image - low, high - low) * 255 + 0.5)


def _radial_frequency(image: Tensor, divisor: float) -> Tensor:
    """Compute the radial frequency ``(H, W)`` in the order of ``fft2``; the Nyquist frequency is (W, H) / divisor."""
    height, width = image.shape
    u = 2 * torch.fft.fftfreq(width, device=image.device, dtype=image.dtype) * width / divisor
    v = 2 * torch.fft.fftfreq(height, device=image.device, dtype=image.dtype) * height / divisor
    return torch.hypot(v[:, None], u)


def _filter_spectrum(image: Tensor, response: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image) * response).real


def _gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur by a 31x31 Gaussian density (whose weights sum to slightly less than 1), with zeros outside."""
    taps = gaussian_taps(31, sigma, scale=1 / (math.sqrt(2 * math.pi) * sigma))
    return filter_valid(pad(image[None], 15, "constant"), taps)[0]


def _visible_contrast(image: Tensor) -> Tensor:
    """Compute the masked local contrast ``(H, W)``, weighted by contrast sensitivity, >= 0."""
    image = _stretch(image)
    r = _radial_frequency(image, divisor=30)
    sensitivity = torch.exp(-((r / 15.3870) ** 2)) - 0.7622 * torch.exp(-((r / 1.3456) ** 2))
    image = _filter_spectrum(image, sensitivity)
    contrast = (ratio(_gaussian_blur(image, 2), _gaussian_blur(image, 4), otherwise=1.0) - 1).abs()
    return contrast**3 / (contrast**2 + 1e-4)


def contrast_preservation(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Qcb: preserved contrast, 0 to 1, each source weighted by its share of squared contrast.

    Where both compared contrasts are 0 the preservation is 1; where neither source has contrast, both weights are 0.5.
    """
    contrast_f = _visible_contrast(fused)
    contrast_ir, contrast_vi = _visible_contrast(ir), _visible_contrast(vi)
    kept_ir, kept_vi = (
        ratio(torch.minimum(c, contrast_f), torch.maximum(c, contrast_f), otherwise=1.0)
        for c in (contrast_ir, contrast_vi)
    )
    weight_ir = ratio(contrast_ir**2, contrast_ir**2 + contrast_vi**2, otherwise=0.5)
    return (weight_ir * kept_ir + (1 - weight_ir) * kept_vi).mean()


def _block_sums(image: Tensor) -> Tensor:
    """Sum over 16x16 blocks from the top left; incomplete blocks are padded with zeros."""
    height, width = image.shape
    padded = torch.nn.functional.pad(image, (0, -width % _BLOCK, 0, -height % _BLOCK))
    return padded.unflatten(1, (-1, _BLOCK)).unflatten(0, (-1, _BLOCK)).sum((1, 3))


def perceived_difference(ir: Tensor, vi: Tensor, fused: Tensor) -> Tensor:
    """Qcv: visible squared difference from the sources over 16x16 blocks, weighted by the sources' edge saliency.

    If neither source has an edge, all blocks have the same weight.
    """
    fused = _stretch(fused)
    r = _radial_frequency(fused, divisor=8)
    sensitivity = 2.6 * (0.0192 + 0.144 * r) * torch.exp(-((0.144 * r) ** 1.1))
    salience, difference = [], []
    for source in (_stretch(ir), _stretch(vi)):
        dx, dy = sobel(source, "constant")
        salience.append(_block_sums(torch.hypot(dx, dy) ** 5))
        difference.append(_block_sums(_filter_spectrum(source - fused, sensitivity) ** 2) / _BLOCK**2)
    salience, difference = torch.stack(salience), torch.stack(difference)
    return ratio((salience * difference).sum(), salience.sum(), otherwise=difference.mean())
