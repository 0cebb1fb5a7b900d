"""Photometric augmentation: simulate night, glare and noisy sensors without moving the image."""

import math

import torch
from kornia.augmentation import RandomGamma, RandomGaussianNoise, RandomInvert
from torch import Tensor

_INVERT, _GAMMA, _NOISE = RandomInvert(), RandomGamma(), RandomGaussianNoise()


def photometric(modality: str, image: Tensor, generator: torch.Generator, noise: torch.Generator) -> Tensor:
    """Change brightness and gamma of images ``(B, C, H, W)`` in [0, 1] at random and add noise; same shape and range.

    ``modality`` "vi" may be darkened to an eighth; "ir" only to a half, but also inverted (a "black-hot" palette).
    ``generator`` (CPU) draws the parameters, ``noise``, on the device of ``image``, the pixel noise.

    kornia's augmentations are called with explicit parameters, since by themselves they draw from PyTorch's global
    generator, whose state a resumed run could not restore without side effects.
    """

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(len(image), generator=generator)).to(image.device)

    def apply(augmentation: torch.nn.Module, share: Tensor | None = None, **parameters: Tensor) -> Tensor:
        every = torch.ones(len(image), device=image.device)
        return augmentation(image, params=parameters | {"batch_prob": every if share is None else share})

    if modality == "ir":
        image = apply(_INVERT, (uniform(0, 1) < 0.1).float())
    gamma = uniform(-0.4, 0.4).exp()
    darkest = 1 / 8 if modality == "vi" else 1 / 2
    gain = torch.where(uniform(0, 1) < 0.5, uniform(math.log(darkest), math.log(1.3)).exp(), 1.0)
    image = apply(_GAMMA, gamma_factor=gamma, gain_factor=gain)
    grain = torch.randn(image.shape, generator=noise, device=image.device)
    return apply(_NOISE, gaussian_noise=uniform(0, 0.02).view(-1, 1, 1, 1) * grain).clamp(0, 1)
