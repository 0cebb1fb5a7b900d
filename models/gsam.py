"""GSAM: the global spatial attention module of FusionNet (paper, Sec. III-C, Fig. 4)."""

import torch
from torch import Tensor, nn

from models.layers import ConvBlock
from models.scan import DIRECTIONS, scan


class DirectionalScan(nn.Module):
    """The learned weights and biases of one four-directional scan; the recurrent weights start at 0.2."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((len(DIRECTIONS), channels), 0.2))
        self.bias = nn.Parameter(torch.zeros(len(DIRECTIONS), channels))

    def forward(self, x: Tensor, direction_weights: Tensor | None) -> Tensor:
        """Scan ``(B, C, H, W)`` to ``(B, 4C, H, W)``, each direction times its weight in ``(B, 4, 1, H, W)``."""
        scans = scan(x, self.weight, self.bias)
        if direction_weights is not None:
            # In place where no gradient is needed, to avoid a second tensor of four times the size of x.
            scans = scans * direction_weights if scans.requires_grad else scans.mul_(direction_weights)
        return scans.flatten(1, 2)


class GSAM(nn.Module):
    """Attention weights for the IR features, from both modalities' features and context from the whole image.

    ``published=True`` omits the two sigmoids and does not apply the direction weights, as in the released code.
    """

    def __init__(self, channels: int = 32, published: bool = False):
        super().__init__()
        self.published = published
        self.direction_weights = nn.Sequential(
            ConvBlock(2 * channels, 16, slope=0.01, bias=True),
            ConvBlock(16, 16, slope=0.01, bias=True),
            ConvBlock(16, len(DIRECTIONS), bias=True),
        )
        self.context_in = ConvBlock(2 * channels, channels, bias=True)
        self.scan1 = DirectionalScan(channels)
        self.between = ConvBlock(4 * channels, channels, bias=True)
        self.scan2 = DirectionalScan(channels)
        self.merge = ConvBlock(4 * channels, channels, slope=0.01, bias=True)
        self.context_out = ConvBlock(channels, channels, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(B, 2C, H, W)`` to the attention map A ``(B, C, H, W)``, in [0, 1] unless published."""
        weights = None if self.published else torch.sigmoid(self.direction_weights(features)).unsqueeze(2)
        x = self.context_in(features)
        x = self.between(self.scan1(x, weights))
        x = self.merge(self.scan2(x, weights))
        x = self.context_out(x)
        return x if self.published else torch.sigmoid(x)
