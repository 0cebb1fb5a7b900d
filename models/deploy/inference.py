"""Fast inference: a frozen, optimised copy of :class:`models.superfusion.SuperFusion`.

In float32 its results equal those of the original up to rounding. It cannot be trained.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.forms import has_forms
from models.layers import ConvBlock
from models.results import Registration, check_pair
from models.scan import backends_for
from models.superfusion import SuperFusion, reduce
from models.warping import resize_flow

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Overlap of neighbouring tiles, and width of the halo of weight 0 along a tile's inner borders, both in pixels. In the
# halo the output depends on pixels outside the tile, through the convolutions (13 px) and the scans (whose state decays
# by a factor of about 0.2 per pixel in trained weights).
_OVERLAP = 96
_HALO = 24
SMALLEST_TILE = 4 * _OVERLAP


class OptimizedSuperFusion(nn.Module):
    """A frozen copy of ``model`` on the same device, with the methods ``register`` and ``fuse``.

    Batch normalisation is folded into the convolutions, which run in channels_last memory and in ``precision``
    ("float32", "bfloat16" or "float16"); flows, costs and images stay float32. On a CPU, the fusion network's float32
    convolutions of many channels take their Winograd form. ``compile`` instead applies torch.compile to the
    convolutions, which takes about a minute at the first image and needs a C++ compiler on a CPU.

    ``max_side``, at least ``SMALLEST_TILE``, bounds the memory for large images: the flow is estimated on images
    reduced to that longer side, which also reduces misalignments to the range the matcher was trained for; fusion runs
    at full resolution in overlapping tiles of that side. None sets no bound.

    Raises ValueError for another precision or a smaller ``max_side``.
    """

    def __init__(
        self, model: SuperFusion, precision: str = "float32", compile: bool = False, max_side: int | None = None
    ):
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; use one of {', '.join(PRECISIONS)}")
        if max_side is not None and max_side < SMALLEST_TILE:
            raise ValueError(f"max_side is {max_side}; use at least {SMALLEST_TILE}")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        if next(model.parameters()).device.type in ("cpu", "cuda"):
            self.model.to(memory_format=torch.channels_last)
        self.dtype, self.max_side = PRECISIONS[precision], max_side
        for module in self.model.modules():
            if isinstance(module, ConvBlock):
                _optimise(module)
        if precision == "float32" and not compile:
            # The matcher's images are smaller: it would be no faster.
            for module in self.model.fusion.modules():
                if isinstance(module, ConvBlock):
                    module[0] = fastest(module[0])
        if compile:
            self.model.compile_convolutions()

    @torch.inference_mode()
    def register(self, ir: Tensor, vi: Tensor) -> Registration:
        """Register as :meth:`models.superfusion.SuperFusion.register` does."""
        check_pair(ir, vi)
        size = vi.shape[-2:]
        with torch.autocast(vi.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if not self._large(size):
                return self.model.register(ir, vi)
            scale = self.max_side / max(size)
            flow = self.model.register(reduce(ir, scale), reduce(vi, scale)).flow_ir2vi
        return Registration.by_flow(ir, resize_flow(flow, size))

    @torch.inference_mode()
    def fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse as :meth:`models.superfusion.SuperFusion.fuse` does."""
        check_pair(ir, vi)
        with torch.autocast(vi.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if not self._large(vi.shape[-2:]):
                return self.model.fuse(ir, vi).float()
            fused, total = (vi.new_zeros(len(vi), channels, *vi.shape[-2:]) for channels in (3, 1))
            rows, columns = (_tiles(side, self.max_side) for side in vi.shape[-2:])
            for y, weight_y in rows:
                for x, weight_x in columns:
                    weight = (weight_y[:, None] * weight_x).to(vi.device)
                    fused[..., y, x] += weight * self.model.fuse(ir[..., y, x], vi[..., y, x])
                    total[..., y, x] += weight
        return fused.div_(total)

    def _large(self, size: Sequence[int]) -> bool:
        return self.max_side is not None and max(size) > self.max_side


@has_forms
def fastest(convolution: nn.Conv2d) -> nn.Module:
    """Return what computes a float32 ``convolution`` fastest on its device: itself, or its Winograd form."""
    device = convolution.weight.device.type
    if device != "cpu" or "numba" not in backends_for(device, torch.float32):
        return convolution
    from models.deploy.winograd import WinogradConv2d  # which needs numba

    return WinogradConv2d(convolution) if WinogradConv2d.suits(convolution) else convolution


def _optimise(block: ConvBlock) -> None:
    """Fold batch normalisation, make activations in-place, and keep channels_last through instance normalisation."""
    for i, layer in reversed(list(enumerate(block))):
        if isinstance(layer, nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(block[0], layer)  # type: ignore[type-var]
            del block[i]
        elif isinstance(layer, nn.InstanceNorm2d):
            # Equivalent, with one channel per group; PyTorch's instance normalisation would leave channels_last.
            block[i] = nn.GroupNorm(layer.num_features, layer.num_features, layer.eps, affine=False)
        elif isinstance(layer, nn.LeakyReLU):
            layer.inplace = True


def _tiles(length: int, largest: int) -> list[tuple[slice, Tensor]]:
    """Split ``length`` pixels into overlapping slices with weights ``(tile,)`` that fall to 0 at inner borders."""
    if length <= largest:
        return [(slice(0, length), torch.ones(length))]
    count = math.ceil((length - _OVERLAP) / (largest - _OVERLAP))
    tile = math.ceil((length + (count - 1) * _OVERLAP) / count)  # the smallest that covers the length
    pixel = torch.arange(tile) + 1.0
    infinite = torch.full_like(pixel, torch.inf)
    tiles = []
    for i in range(count):
        start = round(i * (length - tile) / (count - 1))
        distance = torch.minimum(pixel if i else infinite, pixel.flip(0) if i < count - 1 else infinite)
        weight = ((distance - _HALO) / (_OVERLAP - 2 * _HALO)).clamp(0, 1)
        tiles.append((slice(start, start + tile), weight))
    return tiles
