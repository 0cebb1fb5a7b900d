"""FusionNet: fuse the luminances of a registered IR and a VI image with attention (paper, Sec. III-C)."""

import torch
from torch import Tensor, nn

from models.gsam import GSAM
from models.layers import ConvBlock


def _convolutions(*channels: int) -> list[nn.Module]:
    return [ConvBlock(i, o, slope=0.01, bias=True) for i, o in zip(channels, channels[1:])]


class FusionNet(nn.Module):
    """Two encoders, attention between their features, one decoder. ``published`` as in :class:`models.gsam.GSAM`."""

    def __init__(self, published: bool = False):
        super().__init__()
        self.architecture = dict(published=published)
        self.encoder_ir = nn.Sequential(*_convolutions(1, 8, 16, 16, 32))
        self.encoder_vi = nn.Sequential(*_convolutions(1, 8, 16, 16, 32))
        self.gsam = GSAM(32, published=published)
        self.decoder = nn.Sequential(*_convolutions(32, 16, 16, 8), ConvBlock(8, 1, bias=True), nn.Tanh())

    def compile_convolutions(self) -> None:
        """Compile the encoders and the decoder with torch.compile; the scans of GSAM have optimised backends."""
        for part in (self.encoder_ir, self.encoder_vi, self.decoder):
            part.compile()

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse the luminances ``ir`` and ``vi``, both ``(B, 1, H, W)`` in [0, 1]; same shape and range."""
        f_ir, f_vi = self.encoder_ir(ir), self.encoder_vi(vi)
        attention = self.gsam(torch.cat((f_ir, f_vi), dim=1))
        fused = attention * f_ir + (1 - attention) * f_vi
        return (self.decoder(fused) + 1) / 2
