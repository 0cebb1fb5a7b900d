"""Photometric augmentation: what night, glare and cheap sensors do to an image without moving it."""

import math

import torch
from torch import Tensor


def photometric(modality: str, image: Tensor, generator: torch.Generator, noise: torch.Generator) -> Tensor:
    """Change brightness, gamma and noise of each of the images ``(B, C, H, W)`` in [0, 1] at random; same shape.

    ``modality`` "vi" is also darkened, down to an eighth; "ir" may be inverted (a "black-hot" palette). ``generator``
    (CPU) draws the amounts, ``noise``, on the device of ``image``, the pixel noise. The result lies in [0, 1] too.
    """

    def uniform(low: float, high: float) -> Tensor:
        values = low + (high - low) * torch.rand(len(image), 1, 1, 1, generator=generator)
        return values.to(image.device)

    if modality == "ir":
        image = torch.where(uniform(0, 1) < 0.1, 1 - image, image)
    gamma = uniform(-0.4, 0.4).exp()
    darkest = 1 / 8 if modality == "vi" else 1 / 2
    gain = torch.where(uniform(0, 1) < 0.5, uniform(math.log(darkest), math.log(1.3)).exp(), 1.0)
    grain = torch.randn(image.shape, generator=noise, device=image.device)
    return (gain * image.clamp(0, 1) ** gamma + uniform(0, 0.02) * grain).clamp(0, 1)
