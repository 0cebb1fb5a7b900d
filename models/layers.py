"""The convolution blocks of the networks, and fixed Gaussian filters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """3x3 convolution, then an optional normalisation and activation; keeps the size unless ``stride`` > 1.

    ``norm`` is None, "instance" or "batch", both without affine parameters; ``bias`` gives the convolution one.
    ``slope`` is LeakyReLU's negative slope (0 gives ReLU), None leaves the activation out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        norm: str | None = None,
        slope: float | None = None,
        bias: bool = False,
    ):
        norms = {None: None, "instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d}
        layers = [
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=bias)
        ]
        if norms[norm] is not None:
            layers.append(norms[norm](out_channels, affine=False))
        if slope is not None:
            layers.append(nn.LeakyReLU(slope))
        super().__init__(*layers)


def gaussian_kernel(size: int, sigma: float) -> Tensor:
    """A normalised 1-D Gaussian of ``size`` taps (odd), float32."""
    x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()


def blur(x: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Filter every channel of ``x`` ``(B, C, H, W)`` with the 1-D ``kernel`` along y, then along x, in float32.

    ``border`` is what lies outside: "zero" or "replicate".
    """
    # Under autocast too: reduced precision would show in the flow, and depthwise bfloat16 filters are slow.
    with torch.autocast(x.device.type, enabled=False):
        return _filter(x.float(), kernel.to(x.device), border)


def _filter(x: Tensor, kernel: Tensor, border: str) -> Tensor:
    # Depthwise filters of other memory layouts are many times slower on a CPU.
    x = x.contiguous()
    channels, half = x.shape[1], kernel.numel() // 2
    if border == "replicate":
        x = F.pad(x, (half, half, half, half), mode="replicate")
        padding = 0
    else:
        padding = half
    vertical = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    horizontal = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    x = F.conv2d(x, vertical, padding=(padding, 0), groups=channels)
    return F.conv2d(x, horizontal, padding=(0, padding), groups=channels)
