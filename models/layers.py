"""The convolution blocks of the networks, and fixed Gaussian filters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.forms import has_forms

# On a CPU, images with at most this many channels are filtered along contiguous columns, several times faster than by a
# depthwise convolution.
_FEW_CHANNELS = 4
# On a CPU, kernels of at most this many taps are summed over shifted copies, 2 to 3 times as fast as a depthwise
# convolution; its gradient is not.
_FEW_TAPS = 5


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation that stays in channels_last memory.

    torch's returns contiguous images; then every layer after it converts its gradient, which takes 11 % (float32) to
    18 % (bfloat16) of the matcher's backward pass on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each image of ``(B, C, H, W)``; same shape and memory format."""
        normalised = super().forward(x)
        if x.is_contiguous(memory_format=torch.channels_last):
            return normalised.contiguous(memory_format=torch.channels_last)
        return normalised


class ConvBlock(nn.Sequential):
    """3x3 convolution, then an optional normalisation and activation; keeps the size unless ``stride`` > 1.

    ``norm`` is None, "instance" or "batch", both without affine parameters; ``bias`` adds a bias to the convolution.
    ``slope`` is LeakyReLU's negative slope (0 for ReLU); None omits the activation.
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
        norms = {None: None, "instance": InstanceNorm2d, "batch": nn.BatchNorm2d}
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=bias)
        ]
        if norms[norm] is not None:
            layers.append(norms[norm](out_channels, affine=False))
        if slope is not None:
            layers.append(nn.LeakyReLU(slope))
        super().__init__(*layers)


def gaussian_kernel(size: int, sigma: float, device: torch.device | None = None) -> Tensor:
    """Return a 1-D Gaussian of ``size`` taps (odd) whose sum is 1, float32, made on ``device``."""
    x = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()


@has_forms
def blur(x: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Filter every channel of ``x`` ``(B, C, H, W)`` with the 1-D ``kernel`` along y, then along x, in float32.

    ``border`` is the padding, "zero" or "replicate". :func:`kornia.filters.gaussian_blur2d` computes the same in 2.3
    times the time for 32 channels and, with the gradient, in 20 times the time for one.
    """
    # In float32 under autocast too: lower precision is visible in the flow, and depthwise bfloat16 filters are slow.
    with torch.autocast(x.device.type, enabled=False):
        return _filter(x.float(), kernel.to(x.device), border)


def _filter(x: Tensor, kernel: Tensor, border: str) -> Tensor:
    # Depthwise filters are many times slower on a CPU in other memory layouts.
    x = x.contiguous()
    half = kernel.numel() // 2
    padding = half
    if border == "replicate":
        x, padding = F.pad(x, (half, half, half, half), mode="replicate"), 0
    if x.device.type == "cpu" and kernel.numel() <= _FEW_TAPS and not x.requires_grad:
        x = F.pad(x, (padding,) * 4)
        return _sum_shifted(_sum_shifted(x, kernel, 2), kernel, 3)
    if x.device.type == "cpu" and x.shape[1] <= _FEW_CHANNELS:
        columns = x.flatten(0, 1)
        columns = _filter_columns(columns, kernel, padding).transpose(1, 2).contiguous()
        return _filter_columns(columns, kernel, padding).transpose(1, 2).unflatten(0, x.shape[:2])
    channels = x.shape[1]
    vertical = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    horizontal = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    x = F.conv2d(x, vertical, padding=(padding, 0), groups=channels)
    return F.conv2d(x, horizontal, padding=(0, padding), groups=channels)


def _sum_shifted(x: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Filter ``x`` along ``dim`` by the sum of its shifted copies, without padding."""
    length = x.shape[dim] - kernel.numel() + 1
    first, *others = kernel.tolist()
    result = first * x.narrow(dim, 0, length)
    for shift, weight in enumerate(others, start=1):
        result.add_(x.narrow(dim, shift, length), alpha=weight)
    return result


def _filter_columns(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filter ``x`` ``(N, H, W)``, contiguous, along H by a depthwise convolution whose channels are the columns."""
    columns = x.shape[2]
    x = x.transpose(1, 2)[..., None]
    x = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(columns, 1, -1, 1), padding=(padding, 0), groups=columns)
    return x[..., 0].transpose(1, 2)
