"""The flow convention of the project: pixel grid, warping, resizing, composition, inversion, validity.

Images are ``(B, C, H, W)`` float tensors in [0, 1]. A flow is ``(B, 2, H, W)``, channel 0 = x (to the right),
channel 1 = y (downwards), in **pixels**, and points *backward*: the warped image takes its value at ``p`` from
the source at ``p + flow(p)``,

    warp(src, flow)(p) = src(p + flow(p)),

bilinear, with pixel centres at whole numbers (the first pixel's centre is 0, the last one's is W - 1) and zeros
outside. ``flow_ir2vi`` warps the IR image onto the VI frame.

Two normalised forms exist outside this file's convention and are translated here and nowhere else: the absolute
sampling grids of the authors' test sets, and the displacement fields inside the authors' published networks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Float32 rounding of a sampling position stays far below this; without it, pixels that sample the border
# exactly (the identity, whole-pixel shifts) would flicker between valid and invalid.
_EDGE_TOLERANCE = 1e-3


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel coordinates ``(1, 2, H, W)``: channel 0 holds x = 0..W-1, channel 1 holds y = 0..H-1.

    Device and dtype are those of ``like``.
    """
    y = torch.arange(height, device=like.device, dtype=like.dtype)
    x = torch.arange(width, device=like.device, dtype=like.dtype)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((grid_x, grid_y))[None]


def sample(src: Tensor, positions: Tensor, padding: str = "zeros") -> Tensor:
    """Read ``src`` ``(B, C, H, W)`` bilinearly at pixel ``positions`` ``(B, 2, h, w)``; returns ``(B, C, h, w)``.

    ``padding`` is what lies outside ``src``: "zeros", or "border" (the nearest pixel of the edge).
    """
    height, width = src.shape[-2:]
    x = (2 * positions[:, 0] + 1) / width - 1
    y = (2 * positions[:, 1] + 1) / height - 1
    grid = torch.stack((x, y), dim=-1)
    return F.grid_sample(src, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def warp(src: Tensor, flow: Tensor, padding: str = "zeros") -> Tensor:
    """Backward warp ``src`` ``(B, C, H, W)`` by ``flow`` ``(B, 2, h, w)`` in pixels: ``src(p + flow(p))``.

    The result ``(B, C, h, w)`` has the flow's size; ``padding`` as in :func:`sample`.
    """
    return sample(src, pixel_grid(*flow.shape[-2:], like=flow) + flow, padding)


def valid_mask(flow: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Where a warp by ``flow`` ``(B, 2, h, w)`` samples inside the source: ``(B, 1, h, w)``, 1 inside, 0 outside.

    ``size`` is the source's (height, width), the flow's own by default. "Inside" means between the centres of
    the first and the last pixel, so no zero from outside enters the bilinear mean.
    """
    height, width = size or flow.shape[-2:]
    position = pixel_grid(*flow.shape[-2:], like=flow) + flow
    last = torch.tensor([width - 1, height - 1], device=flow.device, dtype=flow.dtype).view(1, 2, 1, 1)
    inside = (position >= -_EDGE_TOLERANCE) & (position <= last + _EDGE_TOLERANCE)
    return inside.all(dim=1, keepdim=True).to(flow.dtype)


def content_mask(gray: Tensor) -> Tensor:
    """1 where ``gray`` ``(B, 1, H, W)`` shows something, 0 in a black band along its edges; same shape.

    An image that was warped before is exactly 0 where that warp looked outside its source. The outline of such a band
    tells the warp, though not what the image shows: a registration that follows it would fail on images without one.
    The band is every run of zeros that begins at an edge, along a row or a column; zeros further inside are content.
    """
    black = (gray == 0).to(gray.dtype)
    runs = [black.cumprod(dim) for dim in (2, 3)] + [black.flip(dim).cumprod(dim).flip(dim) for dim in (2, 3)]
    return 1 - torch.stack(runs).amax(dim=0)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a flow ``(B, 2, H, W)`` to ``size`` (height, width), scaling the displacements to the new pixels."""
    height, width = flow.shape[-2:]
    if (height, width) == tuple(size):
        return flow
    scale = torch.tensor([size[1] / width, size[0] / height], device=flow.device, dtype=flow.dtype)
    return F.interpolate(flow, size=size, mode="bilinear", align_corners=False) * scale.view(1, 2, 1, 1)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """One flow for two warps: ``warp(warp(src, first), second) = warp(src, compose(first, second))``.

    Both are ``(B, 2, H, W)`` in pixels; outside its frame ``first`` continues with its edge values.
    """
    return second + warp(first, second, padding="border")


def invert(flow: Tensor, iterations: int = 30) -> Tensor:
    """The inverse of a flow ``(B, 2, H, W)`` by the fixed point ``inv(p) = -flow(p + inv(p))``.

    Converges where the flow's displacements change by less than one pixel a pixel (no folding, moderate
    rotation); outside its frame the flow continues with its edge values.
    """
    inverse = -flow
    for _ in range(iterations):
        inverse = -warp(flow, inverse, padding="border")
    return inverse


def grid_to_flow(grid: Tensor) -> Tensor:
    """An absolute sampling grid of the authors' test sets as a flow in pixels.

    ``grid`` is ``(B, H, W, 2)``, x then y, in [-1, 1], meant for ``grid_sample(..., align_corners=False)``.
    Returns ``(B, 2, H, W)``.
    """
    height, width = grid.shape[1:3]
    size = torch.tensor([width, height], device=grid.device, dtype=grid.dtype)
    position = ((grid + 1) * size - 1) / 2
    return position.permute(0, 3, 1, 2) - pixel_grid(height, width, like=grid)


def flow_to_grid(flow: Tensor) -> Tensor:
    """The inverse of :func:`grid_to_flow`: ``(B, 2, H, W)`` in pixels to an absolute ``(B, H, W, 2)`` grid."""
    height, width = flow.shape[-2:]
    position = (pixel_grid(height, width, like=flow) + flow).permute(0, 2, 3, 1)
    size = torch.tensor([width, height], device=flow.device, dtype=flow.dtype)
    return (2 * position + 1) / size - 1


def published_to_flow(displacement: Tensor) -> Tensor:
    """A normalised displacement of the published networks as a flow in pixels; both ``(B, 2, H, W)``.

    The published code adds the displacement to an endpoint-inclusive grid ``-1 + 2 i / (W - 1)`` but samples
    with ``align_corners=False``, so a zero displacement is not the identity but a slight magnification.
    """
    height, width = displacement.shape[-2:]
    pixel = pixel_grid(height, width, like=displacement)
    size = torch.tensor([width, height], device=pixel.device, dtype=pixel.dtype).view(1, 2, 1, 1)
    return pixel / (size - 1) - 0.5 + displacement * size / 2


def flow_to_published(flow: Tensor) -> Tensor:
    """The inverse of :func:`published_to_flow`: pixels to the published networks' normalised displacement."""
    height, width = flow.shape[-2:]
    pixel = pixel_grid(height, width, like=flow)
    size = torch.tensor([width, height], device=flow.device, dtype=flow.dtype).view(1, 2, 1, 1)
    return (flow + 0.5 - pixel / (size - 1)) * 2 / size
