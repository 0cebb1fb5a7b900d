"""Unoptimised operations as in the paper: the baseline of the benchmark."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import blur, gaussian_kernel
from models.scan import scan_reference


def shifted_cost_volume(src: Tensor, tgt: Tensor, correlation: str, dilation: int, sigma: float) -> Tensor:
    """Compute :func:`models.correlation.cost_volume` one neighbour at a time."""
    src = blur(src, gaussian_kernel(4 * round(sigma) + 1, sigma, src.device), border="zero")
    if correlation == "cosine":
        src, tgt = F.normalize(src, dim=1), F.normalize(tgt, dim=1)
    height, width = tgt.shape[-2:]
    reach = 3 * dilation
    src = F.pad(src, (reach, reach, reach, reach))
    costs = []
    for dy in range(0, 2 * reach + 1, dilation):
        for dx in range(0, 2 * reach + 1, dilation):
            neighbour = src[:, :, dy : dy + height, dx : dx + width]
            cosine = correlation == "cosine"
            costs.append((neighbour * tgt).sum(dim=1) if cosine else (neighbour - tgt).square().mean(dim=1))
    return torch.stack(costs, dim=1)


# The argument of models.forms.computed_as.
PLAIN: dict[str, Callable] = {"scan": scan_reference, "cost_volume": shifted_cost_volume}


class SeparateDirections(nn.Module):
    """A matcher that computes each direction separately, without shared features."""

    def __init__(self, matcher: nn.Module):
        super().__init__()
        self.matcher = matcher

    def forward(self, ir: Tensor, vi: Tensor, directions: tuple[str, ...]) -> dict[str, list[Tensor]]:
        return {direction: self.matcher(ir, vi, (direction,))[direction] for direction in directions}
