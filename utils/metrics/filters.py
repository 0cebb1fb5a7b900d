"""Filters, borders and guarded division that several fusion metrics share.

Images are ``(H, W)`` float64 tensors or stacks ``(N, H, W)`` of them; every function keeps device and dtype.
For whole-number images the Sobel filter returns exact whole numbers, since some metrics test its output for zero.
"""

import torch
from torch import Tensor


def gaussian_taps(size: int, sigma: float, scale: float | None = None) -> list[float]:
    """Return the weights of a 1-D Gaussian of ``size`` taps (odd); their outer product is the 2-D window.

    The central weight is ``scale``; by default the weights sum to 1.
    """
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    return (taps / taps.sum() if scale is None else taps * scale).tolist()


def box_taps(size: int) -> list[float]:
    """Return the weights of a 1-D mean over ``size`` samples."""
    return [1 / size] * size


def _slide(image: Tensor, taps: list[float], dim: int) -> Tensor:
    """Correlate with symmetric ``taps`` along ``dim`` without padding, which shortens it by ``len(taps) - 1``."""
    size, half = len(taps), len(taps) // 2
    length = image.shape[dim] - size + 1
    out = image.narrow(dim, half, length) * taps[half]
    for i in range(half):
        mirrored = image.narrow(dim, i, length) + image.narrow(dim, size - 1 - i, length)
        out.add_(mirrored, alpha=taps[i])
    return out


def filter_valid(images: Tensor, taps: list[float]) -> Tensor:
    """Filter a stack ``(N, H, W)`` by the outer product of symmetric ``taps`` of odd length n, without padding.

    Returns ``(N, H - n + 1, W - n + 1)``. Raises ``ValueError`` where no window fits.
    """
    size, (height, width) = len(taps), images.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"a {size}x{size} window does not fit into {height}x{width} pixels: the image is too small")
    # Several times faster than the whole stack at once, since one image stays in the cache.
    return torch.stack([_slide(_slide(image, taps, 0), taps, 1) for image in images])


def pad(images: Tensor, margin: int, mode: str) -> Tensor:
    """Extend ``(..., H, W)`` by ``margin`` pixels on each side.

    ``mode``: "constant" (zeros), "replicate" (the edge pixel) or "reflect" (mirrored about the edge pixel).
    """
    stack = images.reshape(1, -1, *images.shape[-2:])
    padded = torch.nn.functional.pad(stack, [margin] * 4, mode=mode)
    return padded.reshape(*images.shape[:-2], *padded.shape[-2:])


def sobel(image: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """Compute Sobel differences ``(dx, dy)`` of ``(..., H, W)``, unnormalised (weights 1 2 1), same size.

    Right and down are positive; ``border`` is a mode of :func:`pad`. :func:`kornia.filters.spatial_gradient` computes
    the same whole numbers in 1.6 (240x320) to 6 times (480x640) the time.
    """
    x = pad(image, 1, border)
    rows = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    columns = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


def ratio(numerator: Tensor, denominator: Tensor, otherwise: float | Tensor = 0.0) -> Tensor:
    """Return ``numerator / denominator``, or ``otherwise`` where the denominator is exactly 0."""
    empty = denominator == 0
    return torch.where(empty, otherwise, numerator / torch.where(empty, 1.0, denominator))
