"""Compare functions of ours with their library counterparts on the same input: values and time.

Our version is kept where it is at least 1.5 times as fast on a CPU, or where published networks or values depend on its
exact form: ``docs/design.md`` contains the table and the reasons.
"""

from collections.abc import Callable
from dataclasses import dataclass

import kornia
import torch
from torch import Tensor

from losses.fusion import ssim_maps
from losses.segmentation import lovasz_softmax
from models.deploy.inference import fastest
from models.layers import blur, gaussian_kernel
from models.structural_inputs import central_differences
from models.warping import pixel_grid, warp
from utils.benchmark.measure import markdown, seconds
from utils.colour import ycbcr_to_rgb
from utils.metrics import filters

_TURNS = 3  # interleaved, so that other load on the machine affects both versions


@dataclass
class Case:
    """A function ``ours`` and its ``library`` counterpart, both without arguments and returning one tensor."""

    what: str
    name: str
    ours: Callable[[], Tensor]
    library: Callable[[], Tensor]


def cases(device: torch.device, height: int = 240, width: int = 320) -> list[Case]:
    """List the cases, on random images of ``height`` x ``width``."""
    generator = torch.Generator().manual_seed(0)

    def images(channels: int, batch: int = 2, scale: float = 1.0) -> Tensor:
        return scale * torch.rand(batch, channels, height, width, generator=generator).to(device)

    def replicated(x: Tensor, taps: int, sigma: float) -> Tensor:
        return kornia.filters.gaussian_blur2d(x, taps, (sigma, sigma), "replicate")

    def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(function(x).square().sum(), x)[0]

    def remap(image: Tensor, flow: Tensor) -> Tensor:
        x, y = (pixel_grid(height, width, like=flow) + flow).unbind(dim=1)
        return kornia.geometry.remap(image, x, y, align_corners=True)

    gray, other, colour, features = images(1), images(1), images(3), images(32)
    flow = images(2, scale=16.0) - 8
    levels = (images(1, batch=1, scale=255)[0, 0].round()).to(torch.float32 if device.type == "mps" else torch.float64)
    logits = images(9)
    # Only some of the classes occur, as in real images.
    label = torch.randint(5, (2, height, width), generator=generator).to(device)
    many = images(128).contiguous(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(128, 32, 3, padding=1, device=device).requires_grad_(False)
    form = fastest(convolution)
    matcher, photometric = gaussian_kernel(13, 3.0), gaussian_kernel(13, 2.0)
    return [
        Case(
            "3x3 convolution of 128 channels to 32, in inference",
            "torch.nn.Conv2d",
            lambda: form(many),
            lambda: convolution(many),
        ),
        Case(
            "Gaussian of 32 channels, 13 taps (matcher)",
            "kornia.filters.gaussian_blur2d",
            lambda: blur(features, matcher, "replicate"),
            lambda: replicated(features, 13, 3.0),
        ),
        Case(
            "Gaussian of one channel, 13 taps, and its gradient (photometric loss)",
            "kornia.filters.gaussian_blur2d",
            lambda: gradient(lambda x: blur(x, photometric, "replicate"), gray),
            lambda: gradient(lambda x: replicated(x, 13, 2.0), gray),
        ),
        Case(
            "central differences (input channels, descriptors)",
            'kornia.filters.spatial_gradient, "diff"',
            lambda: torch.stack(central_differences(gray), dim=2),
            lambda: kornia.filters.spatial_gradient(gray, "diff"),
        ),
        Case(
            "Sobel in float64 (metrics)",
            "kornia.filters.spatial_gradient",
            lambda: torch.stack(filters.sobel(levels, "replicate")),
            lambda: kornia.filters.spatial_gradient(levels[None, None], normalized=False)[0, 0],
        ),
        Case(
            "SSIM map (SSIM loss)",
            "kornia.metrics.ssim",
            lambda: ssim_maps(gray, other)[0],
            lambda: kornia.metrics.ssim(gray, other, 11),
        ),
        Case(
            "YCbCr to RGB",
            "kornia.color.ycbcr_to_rgb",
            lambda: ycbcr_to_rgb(*colour.split(1, dim=1)),
            lambda: kornia.color.ycbcr_to_rgb(colour).clamp(0, 1),
        ),
        Case(
            "warp by a flow in pixels",
            "kornia.geometry.remap",
            lambda: warp(colour, flow),
            lambda: remap(colour, flow),
        ),
        Case(
            "Lovasz-softmax",
            "kornia.losses.lovasz_softmax_loss",
            lambda: lovasz_softmax(logits, label),
            lambda: kornia.losses.lovasz_softmax_loss(logits, label),
        ),
    ]


def measure(case: Case, device: torch.device, repeats: int) -> tuple[float, float, float]:
    """Return the largest difference of the two results, and the minimum seconds of ours and of the library's.

    The minimum, since other load on the machine only adds to such short times.
    """
    difference = (case.ours() - case.library()).abs().max().item()
    times = ([], [])
    for _ in range(_TURNS):
        for version, spent in zip((case.ours, case.library), times):
            spent += seconds(version, device, repeats)
    return difference, *(min(spent) for spent in times)


def table(device: torch.device, repeats: int) -> str:
    """Measure all cases and format them in Markdown; "x" is the library's time divided by ours."""
    rows = []
    for case in cases(device):
        difference, ours, library = measure(case, device, repeats)
        rows.append(
            [
                case.what,
                f"`{case.name}`",
                f"{difference:.1e}" if difference else "0",
                f"{ours * 1e3:.2f}",
                f"{library * 1e3:.2f}",
                f"{library / ours:.1f}",
            ]
        )
    return markdown(["ours", "library's", "largest difference", "ours ms", "library's ms", "x"], rows)
