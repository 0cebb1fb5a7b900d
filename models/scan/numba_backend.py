"""The four-directional scan on the CPU, compiled by numba: one pass each for down and up, one for left and right.

The state of a line stays in registers or in the L1 cache. The lines are divided among threads.
"""

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.compiled import compiled, run
from models.scan.reference import DIRECTIONS

_UP, _RIGHT, _DOWN, _LEFT = range(len(DIRECTIONS))

# State values per block of columns in a vertical direction: 8 kB, a part of the L1 cache.
_STATE = 2048


def scan(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scan as :func:`models.scan.reference.scan_reference`; differentiable once.

    ``x`` is ``(B, C, H, W)`` in float32 or bfloat16 on the CPU, ``weight`` and ``bias`` ``(4, C)``; the result
    ``(B, 4, C, H, W)`` has the dtype of ``x``, the state is float32. The channels of a pixel are contiguous in memory.
    """
    return _Scan.apply(x, weight, bias)


def _read(value):
    """Convert a stored value, float32 or the bits of a bfloat16, to float32."""


@overload(_read)
def _(value):
    if value == types.float32:
        return lambda value: value
    return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)


def _write(store, y, x, d, c, value):
    """Store the float32 ``value`` in ``store[y, x, d, c]``; for bfloat16, rounded to nearest, ties to even."""


@overload(_write)
def _(store, y, x, d, c, value):
    if store.dtype == types.float32:

        def write(store, y, x, d, c, value):
            store[y, x, d, c] = value

    else:

        def write(store, y, x, d, c, value):
            bits = np.float32(value).view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            store[y, x, d, c] = np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    return write


@compiled
def _relu(value):
    return np.float32(0) if value <= 0 else value  # not max(), so that NaN stays NaN


@compiled
def _horizontal(x, weight, bias, out, first, last):
    """Scan rows ``first`` to ``last`` of ``x`` ``(H, W, C)`` to the right and to the left, into ``out``."""
    width, channels = x.shape[1:]
    state = np.empty(channels, np.float32)
    for y in range(first, last):
        for d, start, step in ((_RIGHT, 0, 1), (_LEFT, width - 1, -1)):
            for c in range(channels):
                state[c] = _relu(_read(x[y, start, c]))
                _write(out, y, start, d, c, state[c])
            for i in range(1, width):
                p = start + step * i
                for c in range(channels):
                    state[c] = _relu(weight[d, c] * state[c] + bias[d, c] + _read(x[y, p, c]))
                    _write(out, y, p, d, c, state[c])


@compiled
def _vertical(x, weight, bias, out, first, last):
    """Scan columns ``first`` to ``last`` of ``x`` ``(H, W, C)`` down and up, into ``out``."""
    height, _, channels = x.shape
    state = np.empty((last - first, channels), np.float32)
    for d, start, step in ((_DOWN, 0, 1), (_UP, height - 1, -1)):
        for p in range(first, last):
            for c in range(channels):
                state[p - first, c] = _relu(_read(x[start, p, c]))
                _write(out, start, p, d, c, state[p - first, c])
        for i in range(1, height):
            y = start + step * i
            for p in range(first, last):
                for c in range(channels):
                    h = _relu(weight[d, c] * state[p - first, c] + bias[d, c] + _read(x[y, p, c]))
                    state[p - first, c] = h
                    _write(out, y, p, d, c, h)


@compiled
def _horizontal_gradient(out, grad, weight, grad_x, sums, first, last):
    """Set rows of ``grad_x`` ``(H, W, C)`` to the gradient of right and left; add those of weight and bias to ``sums``.

    ``sums`` is ``(2, 4, C)``.
    """
    width, _, channels = out.shape[1:]
    g, line = np.empty(channels, np.float32), np.empty((2, channels), np.float32)
    for y in range(first, last):
        grad_x[y] = 0
        for d, start, step in ((_RIGHT, width - 1, -1), (_LEFT, 0, 1)):
            g[:], line[:] = 0, 0
            for i in range(width):
                p = start + step * i
                for c in range(channels):
                    value = _read(grad[y, p, d, c]) + weight[d, c] * g[c]
                    g[c] = value if _read(out[y, p, d, c]) > 0 else np.float32(0)
                    grad_x[y, p, c] += g[c]
                if i < width - 1:
                    for c in range(channels):
                        line[0, c] += g[c] * _read(out[y, p + step, d, c])
                        line[1, c] += g[c]
            sums[:, d] += line


@compiled
def _vertical_gradient(out, grad, weight, grad_x, sums, first, last):
    """Add the gradient of down and up to columns of ``grad_x``, and those of weight and bias to ``sums``."""
    height, _, _, channels = out.shape
    g, line = np.empty((last - first, channels), np.float32), np.empty((2, channels), np.float32)
    for d, start, step in ((_DOWN, height - 1, -1), (_UP, 0, 1)):
        g[:] = 0
        for i in range(height):
            y = start + step * i
            line[:] = 0
            for p in range(first, last):
                for c in range(channels):
                    value = _read(grad[y, p, d, c]) + weight[d, c] * g[p - first, c]
                    g[p - first, c] = value if _read(out[y, p, d, c]) > 0 else np.float32(0)
                    grad_x[y, p, c] += g[p - first, c]
                if i < height - 1:
                    for c in range(channels):
                        line[0, c] += g[p - first, c] * _read(out[y + step, p, d, c])
                        line[1, c] += g[p - first, c]
            sums[:, d] += line


def _array(tensor: Tensor) -> np.ndarray:
    """View a contiguous tensor as a NumPy array; bfloat16, which NumPy lacks, as its bits."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _blocks(lines: int, longest: int) -> list[tuple[int, int]]:
    """Divide ``lines`` lines into blocks of at most ``longest``, at least one per thread."""
    size = max(1, min(longest, -(-lines // torch.get_num_threads())))
    return [(first, min(first + size, lines)) for first in range(0, lines, size)]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        image = x.permute(0, 2, 3, 1).contiguous()
        out = image.new_empty(batch, height, width, len(DIRECTIONS), channels)
        weight, bias = weight.float().contiguous(), bias.float().contiguous()
        kernels = {_vertical: _blocks(width, -(-_STATE // channels)), _horizontal: _blocks(height, height)}
        fixed = _array(weight), _array(bias)
        run(
            [
                (kernel, of_image, *fixed, of_out, *block)
                for of_image, of_out in zip(_array(image), _array(out))
                for kernel, blocks in kernels.items()
                for block in blocks
            ]
        )
        ctx.save_for_backward(out, weight)
        return out.permute(0, 3, 4, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out, weight = ctx.saved_tensors
        batch, height, width, _, channels = out.shape
        grad = grad.permute(0, 3, 4, 1, 2).contiguous()
        grad_x = torch.empty(batch, height, width, channels)
        sums = torch.zeros(2, len(DIRECTIONS), channels, dtype=torch.float64)
        # The rows initialise grad_x, then the columns add to it.
        for kernel, blocks in (
            (_horizontal_gradient, _blocks(height, height)),
            (_vertical_gradient, _blocks(width, -(-_STATE // channels))),
        ):
            parts = torch.zeros(batch, len(blocks), *sums.shape, dtype=torch.float64)
            images = zip(_array(out), _array(grad), _array(grad_x), _array(parts))
            run(
                [
                    (kernel, of_out, of_grad, _array(weight), of_x, part, *block)
                    for of_out, of_grad, of_x, of_parts in images
                    for part, block in zip(of_parts, blocks)
                ]
            )
            sums += parts.sum(dim=(0, 1))
        return grad_x.permute(0, 3, 1, 2).to(grad.dtype), *sums.float()
