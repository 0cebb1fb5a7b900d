"""The four-directional scan line by line with its gradient written out: what the networks use.

The reference leaves the gradient to autograd: a graph node and new memory for every operation on a line. Here a line
of all images stays in the cache until it is done, and the results lie in memory as a convolution with ``channels_last``
weights wants them.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.scan.reference import DIRECTIONS


def scan(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The contract of :func:`models.scan.reference.scan_reference`; differentiable once.

    ``x`` is ``(B, C, H, W)``, ``weight`` and ``bias`` ``(4, C)``; the result ``(B, 4, C, H, W)`` has the type of ``x``,
    the state is float32 at least. In memory the channels of a pixel lie together.
    """
    return _Scan.apply(x, weight, bias)


def _lines(image: Tensor, direction: str) -> list[Tensor]:
    """The lines of ``image`` ``(B, H, W, C)``, each ``(B, H or W, C)``, in the order of travel."""
    lines = image.unbind(1 if direction in ("up", "down") else 2)
    return list(lines) if direction in ("down", "right") else list(lines)[::-1]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        image = x.permute(0, 2, 3, 1).contiguous()
        out = image.new_empty(batch, height, width, len(DIRECTIONS), channels)
        kind = torch.promote_types(x.dtype, torch.float32)
        weight, bias = weight.to(kind), bias.to(kind)
        for d, direction in enumerate(DIRECTIONS):
            lines, states = _lines(image, direction), _lines(out[:, :, :, d], direction)
            h = lines[0].to(kind, copy=True).relu_()
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
            for_weight, for_bias = torch.zeros_like(g), torch.zeros_like(g)
            sums[0].add_(g)
            for i in range(1, len(states)):
                for_weight.addcmul_(g, states[i])
                for_bias.add_(g)
                g.mul_(weight[d]).add_(grads[i]).mul_(states[i] > 0)
                sums[i].add_(g)
            grad_weight[d], grad_bias[d] = for_weight.sum(dim=(0, 1)), for_bias.sum(dim=(0, 1))
        return grad_x.permute(0, 3, 1, 2).to(grad.dtype), grad_weight, grad_bias
