"""3x3 convolutions on a CPU with a quarter of the multiplications: Lavin and Gray, CVPR 2016, F(4x4, 3x3).

An output tile of 4x4 pixels is ``A' (sum over the channels of (G g G') * (B' d B)) A``, with the input patch d of 6x6
pixels and the filter g of 3x3: 36 products per channel instead of 144. Summed over the channels of several tiles, they
are 36 products of matrices.
"""

import numpy as np
import torch
from numba.extending import register_jitable
from torch import Tensor, nn

from models.compiled import compiled, run

_G = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)

# Tiles at a time: their patches stay in a core's own cache, and the product of their matrices is so small (rows x
# channels x channels) that OpenBLAS, which NumPy and numba call, does not divide it among threads of its own.
_TILES, _LARGEST_PRODUCT = 32, 1 << 18

# With fewer channels the transforms take longer than what they save.
_FEWEST_CHANNELS = 64


class WinogradConv2d(nn.Module):
    """Computes what ``convolution`` does, up to rounding (1e-5 of its largest values), without a gradient.

    ``convolution`` :meth:`suits` it; it and its images are float32 on the CPU.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        weight = torch.einsum("au,bv,oiuv->abio", _G, _G, convolution.weight.detach().double())
        self.weight = weight.flatten(0, 1).float().contiguous()  # (36, channels in, channels out)
        bias = convolution.bias
        self.bias = torch.zeros(weight.shape[-1]) if bias is None else bias.detach().clone()

    @staticmethod
    def suits(convolution: nn.Conv2d) -> bool:
        """Tell whether ``convolution`` is 3x3, without stride, dilation or groups, and faster in this form."""
        form = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
        plain = form == ((3, 3), (1, 1), (1, 1), (1, 1)) and convolution.groups == 1
        return plain and convolution.in_channels >= _FEWEST_CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` ``(B, C, H, W)``, zeros around it; the result ``(B, C', H, W)`` is in channels_last memory."""
        batch, channels, height, width = x.shape
        images = x.permute(0, 2, 3, 1).contiguous()
        out = images.new_empty(batch, height, width, self.weight.shape[2])
        tiles = max(1, min(_TILES, _LARGEST_PRODUCT // (channels * out.shape[3])))
        rows = -(-height // 4)
        block = -(-rows // (4 * torch.get_num_threads()))
        fixed = self.weight.numpy(), self.bias.numpy(), tiles
        run(
            [
                (_convolve, image, result, *fixed, first, min(first + block, rows))
                for image, result in zip(images.numpy(), out.numpy())
                for first in range(0, rows, block)
            ]
        )
        return out.permute(0, 3, 1, 2)


_inlined = register_jitable(inline="always")  # a call with tuples would not become vector instructions

# numba takes a product of float32 and an integer for float64.
_TWO, _FOUR, _FIVE, _EIGHT = (np.float32(value) for value in (2, 4, 5, 8))


@_inlined
def _into(d0, d1, d2, d3, d4, d5):
    """Compute ``B' d``."""
    low, high, difference = d4 - _FOUR * d2, d3 - _FOUR * d1, d4 - d2
    twice = _TWO * (d3 - d1)
    return (
        _FOUR * d0 - _FIVE * d2 + d4,
        low + high,
        low - high,
        difference + twice,
        difference - twice,
        _FOUR * d1 - _FIVE * d3 + d5,
    )


@_inlined
def _out_of(m0, m1, m2, m3, m4, m5):
    """Compute ``A' m``."""
    near, far, slope, steep = m1 + m2, m3 + m4, m1 - m2, m3 - m4
    return m0 + near + far, slope + _TWO * steep, near + _FOUR * far, slope + _EIGHT * steep + m5


@_inlined
def _transform(image, y, x, half, patches, i):
    """Write ``B' d B`` of the patch at ``y``, ``x`` of ``image`` ``(H, W, C)`` to tile i of ``patches`` (36, n, C)."""
    for b in range(6):
        for c in range(image.shape[2]):
            half[0, b, c], half[1, b, c], half[2, b, c], half[3, b, c], half[4, b, c], half[5, b, c] = _into(
                image[y, x + b, c],
                image[y + 1, x + b, c],
                image[y + 2, x + b, c],
                image[y + 3, x + b, c],
                image[y + 4, x + b, c],
                image[y + 5, x + b, c],
            )
    for a in range(6):
        k = 6 * a
        for c in range(image.shape[2]):
            (
                patches[k, i, c],
                patches[k + 1, i, c],
                patches[k + 2, i, c],
                patches[k + 3, i, c],
                patches[k + 4, i, c],
                patches[k + 5, i, c],
            ) = _into(half[a, 0, c], half[a, 1, c], half[a, 2, c], half[a, 3, c], half[a, 4, c], half[a, 5, c])


@_inlined
def _transform_back(products, i, half, bias, out, y, x):
    """Write ``A' m A + bias`` of tile i of ``products`` ``(36, n, C)`` to ``y``, ``x`` of ``out`` ``(H, W, C)``."""
    for b in range(6):
        for c in range(out.shape[2]):
            half[0, b, c], half[1, b, c], half[2, b, c], half[3, b, c] = _out_of(
                products[b, i, c],
                products[6 + b, i, c],
                products[12 + b, i, c],
                products[18 + b, i, c],
                products[24 + b, i, c],
                products[30 + b, i, c],
            )
    for a in range(4):
        for c in range(out.shape[2]):
            o0, o1, o2, o3 = _out_of(
                half[a, 0, c], half[a, 1, c], half[a, 2, c], half[a, 3, c], half[a, 4, c], half[a, 5, c]
            )
            out[y + a, x, c] = o0 + bias[c]
            out[y + a, x + 1, c] = o1 + bias[c]
            out[y + a, x + 2, c] = o2 + bias[c]
            out[y + a, x + 3, c] = o3 + bias[c]


@compiled
def _convolve(image, out, weight, bias, tiles, first, last):
    """Convolve rows ``first`` to ``last`` of tiles of ``image`` ``(H, W, C)`` into ``out`` ``(H, W, C')``."""
    height, width, channels = image.shape
    across = (width + 3) // 4
    patches = np.empty((36, tiles, channels), np.float32)
    products = np.empty((36, tiles, out.shape[2]), np.float32)
    half = np.empty((6, 6, channels), np.float32)
    half_back = np.empty((4, 6, out.shape[2]), np.float32)
    patch = np.empty((6, 6, channels), np.float32)  # at the frame
    tile = np.empty((4, 4, out.shape[2]), np.float32)
    for row in range(first, last):
        for start in range(0, across, tiles):
            count = min(tiles, across - start)
            for i in range(count):
                y, x = 4 * row - 1, 4 * (start + i) - 1
                if y >= 0 and x >= 0 and y + 6 <= height and x + 6 <= width:
                    _transform(image, y, x, half, patches, i)
                else:
                    patch[:] = 0
                    for v in range(max(y, 0), min(y + 6, height)):
                        for u in range(max(x, 0), min(x + 6, width)):
                            patch[v - y, u - x] = image[v, u]
                    _transform(patch, 0, 0, half, patches, i)
            for k in range(36):
                np.dot(patches[k], weight[k], products[k])
            for i in range(count):
                y, x = 4 * row, 4 * (start + i)
                if y + 4 <= height and x + 4 <= width:
                    _transform_back(products, i, half_back, bias, out, y, x)
                else:
                    _transform_back(products, i, half_back, bias, tile, 0, 0)
                    for v in range(y, min(y + 4, height)):
                        for u in range(x, min(x + 4, width)):
                            out[v, u] = tile[v - y, u - x]
