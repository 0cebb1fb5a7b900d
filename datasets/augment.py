"""Augmentation of appearance: other light, other sensors, and a made-up other modality; nothing moves the image.

Every random number is drawn on the images' device, and no function waits for that device. That is why kornia's
augmentations are not used here: they read their parameters back to decide which images they change.
"""

import math

import torch
from torch import Tensor

from models.layers import blur, gaussian_kernel

_TONES = 9  # knots of a random tone curve


def photometric(modality: str, image: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness and gamma of images ``(B, C, H, W)`` in [0, 1] at random and add noise; same shape and range.

    ``modality`` "vi" may be darkened to an eighth; "ir" only to a half, but also inverted (a "black-hot" palette).
    ``generator`` is of the images' device.
    """
    uniform = _Uniform(image, generator)
    if modality == "ir":
        image = torch.where(uniform() < 0.1, 1 - image, image)
    gamma = uniform(-0.4, 0.4).exp()
    darkest = 1 / 8 if modality == "vi" else 1 / 2
    gain = torch.where(uniform() < 0.5, uniform(math.log(darkest), math.log(1.3)).exp(), 1.0)
    return _noisy(gain * image.clamp(min=0).pow(gamma), uniform(0, 0.02), generator)


def other_modality(image: Tensor, generator: torch.Generator) -> Tensor:
    """Make up what another sensor might see of the scenes ``image`` ``(B, 3, H, W)`` in [0, 1]: ``(B, 1, H, W)``.

    The colours are mixed to gray with random weights, which may be negative; the gray values go through a random tone
    curve, monotone in half of the images, in either direction; local contrast is strengthened or weakened; and the
    image is softened and made noisy, as by a thermal sensor. Two images of one scene that differ in this way share
    their structure only, as IR and VI do, and no partner is needed.
    """
    uniform = _Uniform(image, generator)
    weights = torch.cat([uniform(-0.3, 1.0) for _ in range(3)], dim=1)
    gray = _stretched((image * weights).sum(dim=1, keepdim=True))

    steps = torch.cat([uniform(-1.0, 1.0) for _ in range(_TONES - 1)], dim=1).flatten(1)
    steps = torch.where((uniform() < 0.5).view(-1, 1), steps.abs(), steps)
    curve = torch.cat((torch.zeros_like(steps[:, :1]), steps.cumsum(dim=1)), dim=1)
    tone = _stretched(_curve(gray, curve))
    tone = torch.where(uniform() < 0.5, 1 - tone, tone)

    coarse = blur(tone, gaussian_kernel(33, 8.0, image.device), border="replicate")
    contrasted = uniform(0.3, 1.0) * coarse + uniform(0.5, 1.5) * (tone - coarse)
    soft = blur(contrasted, gaussian_kernel(9, 1.5, image.device), border="replicate")
    return _noisy(torch.lerp(contrasted, soft, uniform()), uniform(0, 0.04), generator)


class _Uniform:
    """Draw one number ``(B, 1, 1, 1)`` for each of a batch of images, on their device."""

    def __init__(self, image: Tensor, generator: torch.Generator):
        self.count, self.device, self.generator = len(image), image.device, generator

    def __call__(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        drawn = torch.rand(self.count, 1, 1, 1, generator=self.generator, device=self.device)
        return low + (high - low) * drawn


def _noisy(image: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    grain = torch.randn(image.shape, generator=generator, device=image.device)
    return (image + deviation * grain).clamp(0, 1)


def _stretched(image: Tensor) -> Tensor:
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return (image - low) / (high - low).clamp(min=1e-6)


def _curve(gray: Tensor, curve: Tensor) -> Tensor:
    """Map ``gray`` ``(B, 1, H, W)`` in [0, 1] through the piecewise linear ``curve`` ``(B, knots)``; same shape."""
    place = gray.flatten(1) * (curve.shape[1] - 1)
    knot = place.floor().clamp(max=curve.shape[1] - 2)
    index = knot.long()
    return torch.lerp(curve.gather(1, index), curve.gather(1, index + 1), place - knot).view_as(gray)
