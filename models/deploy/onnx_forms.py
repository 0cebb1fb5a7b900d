"""Implementations of operations that export to ONNX with free image sizes, for :func:`models.forms.computed_as`.

The networks' own implementations are fast in PyTorch through custom gradients, strided views and filters with one group
per column. ONNX has none of these, or only with the size fixed in the graph.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan as scan_lines

from models.correlation import SEARCH_RADIUS
from models.layers import gaussian_kernel


def scan(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scan ``(B, C, H, W)`` to ``(B, 4, C, H, W)`` as :func:`models.scan.reference.scan_reference`, by ONNX loops."""
    up, down = _both_ways(x.permute(2, 0, 1, 3), weight[0::2], bias[0::2])
    left, right = _both_ways(x.permute(3, 0, 1, 2), weight[[3, 1]], bias[[3, 1]])
    up, down = (rows.permute(1, 2, 0, 3) for rows in (up, down))
    left, right = (columns.permute(1, 2, 3, 0) for columns in (left, right))
    return torch.stack((up, right, down, left), dim=1)


def _both_ways(lines: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Scan ``lines`` ``(L, B, C, N)`` backwards with ``weight[0]`` and forwards with ``weight[1]``.

    ``weight`` and ``bias`` are ``(2, C)``; the two results have the shape and the order of ``lines``.
    """
    weight, bias = weight[:, None, :, None], bias[:, None, :, None]

    def step(state: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
        state = (weight * state + bias + line).relu()
        return state, state.clone()  # the two must not share memory

    lines = torch.stack((lines.flip(0), lines), dim=1)
    first = lines[0].relu()
    _, others = scan_lines(step, first, lines[1:], dim=0)
    backwards, forwards = torch.cat((first[None], others)).unbind(dim=1)
    return backwards.flip(0), forwards


def blur(x: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Blur ``x`` ``(B, C, H, W)`` as :func:`models.layers.blur`, by two depthwise filters."""
    channels, half = x.shape[1], kernel.numel() // 2
    x = F.pad(x, (half, half, half, half), mode={"zero": "constant", "replicate": "replicate"}[border])
    x = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def cost_volume(src: Tensor, tgt: Tensor, correlation: str, dilation: int, sigma: float) -> Tensor:
    """Compute :func:`models.correlation.cost_volume` by shifted copies: two ``(B, C, H, W)`` to ``(B, 49, H, W)``.

    The seven rows of a neighbourhood are gathered at once, since every operation in the graph slows down the export.
    """
    src = blur(src, gaussian_kernel(4 * round(sigma) + 1, sigma, src.device), border="zero")
    if correlation == "cosine":
        src, tgt = F.normalize(src, dim=1), F.normalize(tgt, dim=1)
    height, width = tgt.shape[-2:]
    span, reach = 2 * SEARCH_RADIUS + 1, SEARCH_RADIUS * dilation
    rows = dilation * torch.arange(span)[:, None] + torch.arange(height)
    src = F.pad(src, (reach, reach, reach, reach)).index_select(2, rows.flatten()).unflatten(2, (span, height))
    tgt = tgt[:, :, None]
    costs = []
    for shift in range(0, 2 * reach + 1, dilation):
        neighbours = src.narrow(4, shift, width)  # (B, C, 7, H, W)
        costs.append((neighbours * tgt).sum(1) if correlation == "cosine" else (neighbours - tgt).square().mean(1))
    return torch.stack(costs, dim=2).flatten(1, 2)


def iterate(step: Callable, state: tuple[Tensor, Tensor], settings: Sequence[tuple[float, float]]) -> tuple:
    """Apply ``step`` as :func:`models.consensus.iterate`, by an ONNX loop in place of as many copies of the graph."""

    def body(state: tuple[Tensor, Tensor], setting: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        state = step(state, *setting.unbind())
        return state, setting.clone()  # the results of the rounds are not needed, but a loop has some

    first = tuple(part.clone() for part in state)  # the step may also read what it starts from
    return scan_lines(body, first, torch.tensor(settings), dim=0)[0]


FORMS: dict[str, Callable] = {"scan": scan, "blur": blur, "cost_volume": cost_volume, "iterate": iterate}
