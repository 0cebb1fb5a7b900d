"""Cost volumes: the similarity of every target feature to the source features around it.

The local correlation is computed by seven batched products of rows instead of 49 products of shifted feature maps,
which makes the forward and the backward pass several times faster.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.forms import has_forms
from models.layers import blur, gaussian_kernel

SEARCH_RADIUS = 3  # a neighbourhood has 2 x 3 + 1 = 7 source features along each axis

# Columns per row block: a larger block multiplies faster, but computes more products beyond the search radius.
_TILE = 32


@has_forms
def cost_volume(src: Tensor, tgt: Tensor, correlation: str, dilation: int, sigma: float) -> Tensor:
    """Compare every target feature with a 7x7 neighbourhood of the blurred source features.

    ``src`` and ``tgt`` are ``(B, C, H, W)``; neighbours are ``dilation`` pixels apart; the blur is a Gaussian of
    ``sigma``, cut off at about 2 sigma. Returns ``(B, 49, H, W)``, row by row from the upper left neighbour:
    ``correlation="squared"`` is the mean squared difference over channels, "cosine" the cosine similarity.
    """
    src = blur(src, gaussian_kernel(4 * round(sigma) + 1, sigma, src.device), border="zero")
    # In float32 under autocast too: small differences between features matter.
    with torch.autocast(src.device.type, enabled=False):
        if correlation == "cosine":
            src, tgt = F.normalize(src, dim=1), F.normalize(tgt.float(), dim=1)
            return local_correlation(src, tgt, SEARCH_RADIUS, dilation)
        return _squared_differences(src, tgt.float(), dilation)


def _squared_differences(src: Tensor, tgt: Tensor, dilation: int) -> Tensor:
    """Compute the mean over channels of (s - t)^2 as s^2 - 2 s t + t^2; the source is zero outside its frame."""
    span, reach = 2 * SEARCH_RADIUS + 1, SEARCH_RADIUS * dilation
    energy = F.unfold(src.square().mean(dim=1, keepdim=True), span, dilation=dilation, padding=reach)
    product = local_correlation(src, tgt, SEARCH_RADIUS, dilation) / src.shape[1]
    return energy.unflatten(2, src.shape[-2:]) - 2 * product + tgt.square().mean(dim=1, keepdim=True)


def local_correlation(src: Tensor, tgt: Tensor, radius: int, dilation: int) -> Tensor:
    """Compute ``sum_c src_c(p + dilation n) tgt_c(p)`` for the ``(2 radius + 1)^2`` integer offsets n.

    ``src`` and ``tgt`` are ``(B, C, H, W)``, zero outside; returns ``(B, (2 radius + 1)^2, H, W)``, row by row from the
    upper left offset. Differentiable once.
    """
    return _Correlation.apply(src, tgt, radius, dilation)


def _row_windows(padded: Tensor, reach: int) -> Tensor:
    """View rows ``(B, H, tiles * tile + 2 reach, C)`` as overlapping windows ``(B, H, tiles, tile + 2 reach, C)``."""
    return padded.unfold(2, _TILE + 2 * reach, _TILE).transpose(3, 4)


def _diagonals(products: Tensor, radius: int, dilation: int) -> Tensor:
    """View the entries ``[i, i + dilation k]`` of ``(..., tile, tile + 2 reach)`` as ``(..., tile, 2 radius + 1)``."""
    strides = products.stride()
    shape = (*products.shape[:-1], 2 * radius + 1)
    return products.as_strided(shape, (*strides[:-2], strides[-2] + strides[-1], dilation * strides[-1]))


class _Correlation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, src: Tensor, tgt: Tensor, radius: int, dilation: int) -> Tensor:
        batch, channels, height, width = tgt.shape
        reach, span = radius * dilation, 2 * radius + 1
        spare = -width % _TILE
        padded = F.pad(src.permute(0, 2, 3, 1), (0, 0, reach, reach + spare, reach, reach))
        rows = F.pad(tgt.permute(0, 2, 3, 1), (0, 0, 0, spare)).unflatten(2, (-1, _TILE))
        costs = tgt.new_empty(batch, span, span, height, width + spare)
        for k in range(span):
            window = _row_windows(padded[:, k * dilation : k * dilation + height], reach)
            products = _diagonals(rows @ window.transpose(3, 4), radius, dilation)  # (B, H, tiles, tile, span)
            costs[:, k] = products.flatten(2, 3).permute(0, 3, 1, 2)
        ctx.save_for_backward(padded, rows)
        ctx.shape, ctx.radius, ctx.dilation = tgt.shape, radius, dilation
        return costs[..., :width].flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        padded, rows = ctx.saved_tensors
        batch, channels, height, width = ctx.shape
        radius, dilation = ctx.radius, ctx.dilation
        reach, span = radius * dilation, 2 * radius + 1
        tiles = rows.shape[2]
        grad = F.pad(grad, (0, tiles * _TILE - width)).unflatten(1, (span, span)).unflatten(4, (tiles, _TILE))
        grad_padded, grad_rows = torch.zeros_like(padded), torch.zeros_like(rows)
        products = grad.new_zeros(batch, height, tiles, _TILE, _TILE + 2 * reach)
        for k in range(span):
            shifted = slice(k * dilation, k * dilation + height)
            _diagonals(products, radius, dilation).copy_(grad[:, k].permute(0, 2, 3, 4, 1))
            grad_rows += products @ _row_windows(padded[:, shifted], reach)
            parts = products.transpose(3, 4) @ rows  # (B, H, tiles, tile + 2 reach, C); neighbours overlap
            for t in range(tiles):
                grad_padded[:, shifted, t * _TILE : (t + 1) * _TILE + 2 * reach] += parts[:, :, t]
        grad_src = grad_padded[:, reach : reach + height, reach : reach + width].permute(0, 3, 1, 2)
        return grad_src, grad_rows.flatten(2, 3)[:, :, :width].permute(0, 3, 1, 2), None, None
