"""The four-directional scan line by line in torch, with an explicit gradient: the backend for any device.

The reference leaves the gradient to autograd, which makes a graph node and new memory for every operation on a line.
Here a line of all images stays in the cache until it is finished, and the result is in channels_last memory, as the
following convolution needs it.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.scan.reference import DIRECTIONS


def scan(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scan as :func:`models.scan.reference.scan_reference`; differentiable once.

    ``x`` is ``(B, C, H, W)``, ``weight`` and ``bias`` ``(4, C)``; the result ``(B, 4, C, H, W)`` has the dtype of
    ``x``, the state at least float32. The channels of a pixel are contiguous in memory.
    """
    return _Scan.apply(x, weight, bias)


def _lines(image: Tensor, direction: str) -> list[Tensor]:
    """Split ``image`` ``(B, H, W, C)`` into its lines, each ``(B, H or W, C)``, in the order of travel."""
    lines = image.unbind(1 if direction in ("up", "down") else 2)
    return list(lines) if direction in ("down", "right") else list(lines)[::-1]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        image = x.permute(0, 2, 3, 1).contiguous()
        out = image.new_empty(batch, height, width, len(DIRECTIONS), channels)
        state_dtype = torch.promote_types(x.dtype, torch.float32)
        weight, bias = weight.to(state_dtype), bias.to(state_dtype)
        for d, direction in enumerate(DIRECTIONS):
            lines, states = _lines(image, direction), _lines(out[:, :, :, d], direction)
            h = lines[0].to(state_dtype, copy=True).relu_()
            states[0].copy_(h)
            for line, state in zip(lines[1:], states[1:]):
                h.mul_(weight[d]).add_(bias[d]).add_(line).relu_()
                state.copy_(h)
        ctx.save_for_backward(out, weight)
        return out.permute(0, 3, 4, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out, weight = ctx.saved_tensors
        grad = grad.permute(0, 3, 4, 1, 2)
        grad_x = torch.zeros_like(out[:, :, :, 0], dtype=weight.dtype, memory_format=torch.contiguous_format)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        for d, direction in enumerate(DIRECTIONS):
            parts = (_lines(tensor, direction)[::-1] for tensor in (out[:, :, :, d], grad[:, :, :, d], grad_x))
            states, grads, sums = parts
            g = grads[0].to(weight.dtype) * (states[0] > 0)  # relu passes no gradient elsewhere
            line_grad_weight, line_grad_bias = torch.zeros_like(g), torch.zeros_like(g)
            sums[0].add_(g)
            for i in range(1, len(states)):
                line_grad_weight.addcmul_(g, states[i])
                line_grad_bias.add_(g)
                g.mul_(weight[d]).add_(grads[i]).mul_(states[i] > 0)
                sums[i].add_(g)
            grad_weight[d], grad_bias[d] = line_grad_weight.sum(dim=(0, 1)), line_grad_bias.sum(dim=(0, 1))
        return grad_x.permute(0, 3, 1, 2).to(grad.dtype), grad_weight, grad_bias
