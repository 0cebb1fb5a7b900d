"""The four-directional scan as Triton kernels: the backend for CUDA.

The steps along a line are sequential, so only lines and channels run in parallel. An image of 480x640 with 32 channels
has 2 (480 + 640) 32 = 71680 of them over the four directions: only 17 warps per multiprocessor of a large GPU, and
fewer for crops. Hence:

- One launch computes all four directions. A program is a single warp with one state per lane (32 channels of one line
  in the network, several lines where there are fewer channels). This is the smallest unit that still reads whole memory
  sectors, so it yields the most warps; the warps of a larger program would share nothing.
- Few warps hide the memory latency only if each has many loads in flight. The arithmetic of a step depends on the step
  before, its loads do not: a program holds a chunk of pixels in registers and loads the whole next chunk before it
  steps through the current one. These are plain loads of separate tiles in a fixed order. The compiler's pipelining
  (``num_stages``) would go through shared memory with copies of at least four bytes per lane, which excludes half
  precision, and a tile with the chunk as a dimension could not be split again without a shuffle.

Everything is deterministic: there are no atomics, no two programs write to the same address, and torch sums the parts.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.scan.reference import DIRECTIONS

STORAGE = (torch.float32, torch.float16, torch.bfloat16)
SIZES = ["batch", "height", "width"]  # not specialised: one compiled kernel for all values, be they 1, 480 or 481
LANES = 32
# Pixels loaded ahead. 17 warps times 16 pixels of 128 bytes are 34 KB in flight per multiprocessor, about the bandwidth
# times the latency of an H100's memory. The backward pass reads two values per pixel, hence half as many.
FORWARD_CHUNK = 16
BACKWARD_CHUNK = 8


def scan(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scan as :func:`models.scan.reference.scan_reference`; differentiable once.

    ``x`` is ``(B, C, H, W)`` in float32, float16 or bfloat16, ``weight`` and ``bias`` ``(4, C)``; the result
    ``(B, 4, C, H, W)`` has the dtype of ``x``, the state is float32. The channels of a pixel are contiguous in memory.
    """
    if x.dtype not in STORAGE:
        raise TypeError(f"the Triton scan takes float32, float16 or bfloat16, not {x.dtype}")
    return _Scan.apply(x, weight, bias)


@triton.jit
def _travel(direction, backwards, batch, height, width, BLOCK_LINES: tl.constexpr):
    """Compute the lines of this program and the step along them, in pixels of a ``(B, H, W)`` image.

    Returns the indices of the lines and their first pixels, both ``(BLOCK_LINES, 1)``, the number of lines, their
    length, and the step from one pixel to the next. ``backwards`` reverses the direction of travel. Pixel offsets are
    64-bit: with four directions and the channels they can exceed 32 bits before the memory is full.
    """
    vertical = direction % 2 == 0  # "up", "right", "down", "left"
    reverse = ((direction == 0) | (direction == 3)) != backwards
    # Neighbouring lines are neighbouring columns of an image for vertical directions, rows for horizontal ones.
    count = tl.where(vertical, width, height)
    length = tl.where(vertical, height, width)
    step = tl.where(vertical, width, 1).to(tl.int64)
    line = tl.program_id(0) * BLOCK_LINES + tl.arange(0, BLOCK_LINES)[:, None]
    wide = line.to(tl.int64)
    start = tl.where(vertical, wide // width * height * width + wide % width, wide * width)
    start = tl.where(reverse, start + (length - 1) * step, start)
    step = tl.where(reverse, -step, step)
    return line, start, batch * count, length, step


@triton.jit
def _load(pointers, step, mask, left, COUNT: tl.constexpr):
    """Load ``COUNT`` tiles, ``step`` elements apart; tiles from number ``left`` on are zero."""
    tiles = ()
    for k in tl.static_range(COUNT):
        tiles = tiles + (tl.load(pointers + k * step, mask=mask & (k < left), other=0.0),)
    return tiles


@triton.jit
def _relu(value):
    return tl.where(value <= 0, 0.0, value)  # NaN stays NaN, as in torch


@triton.jit(do_not_specialize=SIZES)
def _forward(
    x,
    weight,
    bias,
    out,
    batch,
    height,
    width,
    CHANNELS: tl.constexpr,
    BLOCK_LINES: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Scan ``x`` ``(B, H, W, C)`` into ``out`` ``(B, H, W, 4, C)``; ``weight`` and ``bias`` are ``(4, C)``, float32."""
    direction = tl.program_id(2)
    line, start, count, length, step = _travel(direction, False, batch, height, width, BLOCK_LINES)
    if tl.program_id(0) * BLOCK_LINES >= count:  # the grid is sized for the longer side of the image
        return
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)[None, :]
    mask = (line < count) & (channel < CHANNELS)
    w = tl.load(weight + direction * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
    b = tl.load(bias + direction * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
    x += start * CHANNELS + channel
    out += (start * 4 + direction) * CHANNELS + channel
    x_step, out_step = step * CHANNELS, step * 4 * CHANNELS

    first = tl.load(x, mask=mask, other=0.0)
    x += x_step
    ahead = _load(x, x_step, mask, length - 1, CHUNK)
    h = _relu(first.to(tl.float32))
    tl.store(out, h.to(out.dtype.element_ty), mask=mask)
    out += out_step
    i = 1
    while i < length:  # no range(): the interpreter of Triton 3.6 accepts no computed bound
        chunk = ahead
        x += CHUNK * x_step
        ahead = _load(x, x_step, mask, length - i - CHUNK, CHUNK)
        for k in tl.static_range(CHUNK):
            h = _relu(w * h + b + chunk[k].to(tl.float32))
            tl.store(out, h.to(out.dtype.element_ty), mask=mask & (i + k < length))
            out += out_step
        i += CHUNK


@triton.jit(do_not_specialize=SIZES)
def _backward(
    out,
    grad,
    weight,
    grad_x,
    sums,
    batch,
    height,
    width,
    CHANNELS: tl.constexpr,
    BLOCK_LINES: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Compute the gradients of ``x`` per direction, and of weight and bias per direction and line.

    ``out``, ``grad`` and the float32 ``grad_x`` are ``(B, H, W, 4, C)``, ``weight`` is ``(4, C)``; ``sums``
    ``(2, 4, B max(H, W), C)``, float32, receives the gradients of weight and bias.
    """
    direction = tl.program_id(2)
    line, start, count, length, step = _travel(direction, True, batch, height, width, BLOCK_LINES)
    if tl.program_id(0) * BLOCK_LINES >= count:
        return
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)[None, :]
    mask = (line < count) & (channel < CHANNELS)
    w = tl.load(weight + direction * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
    offset = (start * 4 + direction) * CHANNELS + channel
    out += offset
    grad += offset
    grad_x += offset
    step *= 4 * CHANNELS

    # The last pixel of the forward scan, on which no further step depends.
    h_last, grad_last = tl.load(out, mask=mask, other=0.0), tl.load(grad, mask=mask, other=0.0)
    out += step
    grad += step
    h_ahead, grad_ahead = _load(out, step, mask, length - 1, CHUNK), _load(grad, step, mask, length - 1, CHUNK)
    g = tl.where(h_last > 0, grad_last.to(tl.float32), 0.0)  # relu passes no gradient elsewhere
    tl.store(grad_x, g, mask=mask)
    grad_x += step
    line_grad_weight = tl.full((BLOCK_LINES, BLOCK_CHANNELS), 0.0, tl.float32)
    line_grad_bias = line_grad_weight
    i = 1
    while i < length:
        h_chunk, grad_chunk = h_ahead, grad_ahead
        out += CHUNK * step
        grad += CHUNK * step
        left = length - i - CHUNK
        h_ahead, grad_ahead = _load(out, step, mask, left, CHUNK), _load(grad, step, mask, left, CHUNK)
        for k in tl.static_range(CHUNK):
            inside = i + k < length
            h = h_chunk[k].to(tl.float32)
            g = tl.where(inside, g, 0.0)  # the first pixel of the forward scan uses neither weight nor bias
            line_grad_weight += g * h
            line_grad_bias += g
            g = tl.where(h > 0, grad_chunk[k].to(tl.float32) + w * g, 0.0)
            tl.store(grad_x, g, mask=mask & inside)
            grad_x += step
        i += CHUNK
    lines = batch * tl.where(height > width, height, width)
    sums += (direction.to(tl.int64) * lines + line) * CHANNELS + channel
    tl.store(sums, line_grad_weight, mask=mask)
    tl.store(sums + lines.to(tl.int64) * 4 * CHANNELS, line_grad_bias, mask=mask)


def _launch(kernel, tensors: tuple[Tensor, ...], shape: Sequence[int], chunk: int) -> None:
    """Run ``kernel`` over all lines and channels of a ``(B, H, W, C)`` image and all directions."""
    batch, height, width, channels = shape
    block_channels = min(triton.next_power_of_2(channels), LANES)
    block_lines = LANES // block_channels
    lines = batch * max(height, width)
    grid = (triton.cdiv(lines, block_lines), triton.cdiv(channels, block_channels), len(DIRECTIONS))
    with torch.cuda.device_of(tensors[0]):  # the tensors need not be on the current device
        kernel[grid](
            *tensors,
            batch,
            height,
            width,
            CHANNELS=channels,
            BLOCK_LINES=block_lines,
            BLOCK_CHANNELS=block_channels,
            CHUNK=chunk,
            num_warps=1,
        )


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        image = x.permute(0, 2, 3, 1).contiguous()
        batch, height, width, channels = image.shape
        weight, bias = weight.float().contiguous(), bias.float().contiguous()
        out = image.new_empty(batch, height, width, len(DIRECTIONS), channels)
        _launch(_forward, (image, weight, bias, out), image.shape, FORWARD_CHUNK)
        ctx.save_for_backward(out, weight)
        return out.permute(0, 3, 4, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out, weight = ctx.saved_tensors
        batch, height, width, directions, channels = out.shape
        grad = grad.permute(0, 3, 4, 1, 2).contiguous()
        grad_x = torch.empty_like(out, dtype=torch.float32)
        # Zeros, since directions with fewer lines than the others do not write all entries.
        sums = weight.new_zeros(2, directions, batch * max(height, width), channels)
        _launch(_backward, (out, grad, weight, grad_x, sums), (batch, height, width, channels), BACKWARD_CHUNK)
        grad_weight, grad_bias = sums.sum(dim=2)
        return grad_x.sum(dim=3).permute(0, 3, 1, 2).to(out.dtype), grad_weight, grad_bias
