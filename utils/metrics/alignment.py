"""Alignment of two images from different cameras where no true displacement is known.

Images: gray ``(H, W)``, whole numbers 0..255 of any dtype, as in :mod:`utils.metrics.fusion`. Both metrics rise with
better alignment but have no absolute scale: compare them before and after registration of the same pair.
"""

import torch
from torch import Tensor

from utils.metrics.filters import sobel
from utils.metrics.information import LEVELS, histogram_entropy, joint_entropy
from utils.metrics.registry import Metric, higher
from utils.metrics.statistics import pearson

# Gray levels per bin: with 256 x 256 joint bins of a few pixels each, the information would be overestimated.
_BIN_WIDTH = 8


def binned_information(x: Tensor, y: Tensor) -> Tensor:
    """Compute the mutual information in bits of two images with 32 bins each."""
    x, y = torch.floor(x / _BIN_WIDTH), torch.floor(y / _BIN_WIDTH)
    return histogram_entropy(x, LEVELS) + histogram_entropy(y, LEVELS) - joint_entropy(x, y)


def gradient_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Compute the normalised cross-correlation (NCC) of Sobel gradient magnitudes, in [-1, 1]; 0 for a flat image."""
    magnitudes = [torch.hypot(*sobel(image, "replicate")) for image in (x, y)]
    return pearson(*magnitudes)


METRICS: dict[str, Metric] = {"align_MI": higher(binned_information), "align_NCC": higher(gradient_correlation)}


def alignment_metrics(image: Tensor, vi: Tensor) -> dict[str, float]:
    """Compute the :data:`METRICS`, ``align_MI`` in bits and ``align_NCC``, of an infrared ``image`` against ``vi``.

    Raises ValueError if their sizes differ.
    """
    if image.shape != vi.shape:
        sizes = ", ".join(f"{name} {x.shape[0]}x{x.shape[1]}" for name, x in (("infrared", image), ("vi", vi)))
        raise ValueError(f"the images differ in size (height x width): {sizes}")
    image, vi = image.double(), vi.double()
    return {name: metric(image, vi).item() for name, metric in METRICS.items()}
