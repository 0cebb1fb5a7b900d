"""Photometric augmentation: what night, glare and cheap sensors do to an image without moving it."""

import math

import torch
from torch import Tensor


def photometric(modality: str, image: Tensor, generator: torch.Generator) -> Tensor:
    """A random change of brightness, gamma and noise of ``image`` ``(B, C, H, W)`` in [0, 1]; same shape and range.

    ``modality`` "vi" is also darkened, down to an eighth; "ir" may be inverted (a "black-hot" palette).
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    if modality == "ir" and uniform(0, 1) < 0.1:
        image = 1 - image
    gamma = math.exp(uniform(-0.4, 0.4))
    darkest = 1 / 8 if modality == "vi" else 1 / 2
    gain = math.exp(uniform(math.log(darkest), math.log(1.3))) if uniform(0, 1) < 0.5 else 1.0
    noise = uniform(0, 0.02) * torch.randn(image.shape, generator=generator)
    return (gain * image.clamp(0, 1) ** gamma + noise).clamp(0, 1)
