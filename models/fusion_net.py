"""FusionNet: fuse the luminances of a registered IR and a VI image with attention (paper, Sec. III-C)."""

import torch
from torch import Tensor, nn

from models.gsam import GSAM
from models.layers import ConvBlock, blur, gaussian_kernel
from models.warping import resize

# The surroundings of a pixel: a Gaussian (taps, sigma in pixels) on images reduced by the factor.
_REDUCTION, _SURROUNDINGS = 4, (37, 8.0)


def _convolutions(*channels: int) -> list[nn.Module]:
    return [ConvBlock(i, o, slope=0.01, bias=True) for i, o in zip(channels, channels[1:])]


class FusionNet(nn.Module):
    """Two encoders, attention between their features, one decoder. ``published`` as in :class:`models.gsam.GSAM`.

    With ``surroundings`` (ours, not in the paper) the IR encoder also sees the average of IR around each pixel: whether
    something stands out cannot be told from the 30 pixels or so that convolutions and scans reach.
    """

    def __init__(self, published: bool = False, surroundings: bool | None = None):
        super().__init__()
        self.surroundings = not published if surroundings is None else surroundings
        self.architecture = dict(published=published, surroundings=self.surroundings)
        self.encoder_ir = nn.Sequential(*_convolutions(1 + self.surroundings, 8, 16, 16, 32))
        self.encoder_vi = nn.Sequential(*_convolutions(1, 8, 16, 16, 32))
        self.gsam = GSAM(32, published=published)
        self.decoder = nn.Sequential(*_convolutions(32, 16, 16, 8), ConvBlock(8, 1, bias=True), nn.Tanh())

    def compile_convolutions(self) -> None:
        """Compile the encoders and the decoder with torch.compile; the scans of GSAM have optimised backends."""
        for part in (self.encoder_ir, self.encoder_vi, self.decoder):
            part.compile()

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse the luminances ``ir`` and ``vi``, both ``(B, 1, H, W)`` in [0, 1]; same shape and range."""
        seen = torch.cat((ir, surroundings(ir)), dim=1) if self.surroundings else ir
        f_ir, f_vi = self.encoder_ir(seen), self.encoder_vi(vi)
        attention = self.gsam(torch.cat((f_ir, f_vi), dim=1))
        fused = torch.lerp(f_vi, f_ir, attention)
        return (self.decoder(fused) + 1) / 2


def surroundings(ir: Tensor) -> Tensor:
    """Average ``ir`` ``(B, 1, H, W)`` around each pixel (Gaussian, sigma 32), without the black of no content."""
    size = ir.shape[-2:]
    reduced = [max(1, side // _REDUCTION) for side in size]
    pair = resize(torch.cat((ir, (ir > 0).to(ir.dtype)), dim=1), reduced)
    pair = blur(pair, gaussian_kernel(*_SURROUNDINGS, ir.device), border="replicate")
    return resize(pair[:, :1] / pair[:, 1:].clamp(min=1e-3), size).to(ir.dtype)
