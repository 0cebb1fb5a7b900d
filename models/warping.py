"""The flow convention of the project: pixel grid, warping, resizing, composition, inversion, validity.

Images are ``(B, C, H, W)`` float tensors in [0, 1]. A flow is ``(B, 2, H, W)``, channel 0 = x (to the right),
channel 1 = y (downwards), in **pixels**, and points *backward*: the warped image takes its value at ``p`` from
the source at ``p + flow(p)``,

    warp(src, flow)(p) = src(p + flow(p)),

bilinear, with pixel centres at whole numbers (the first pixel's centre is 0, the last one's is W - 1) and zeros
outside. ``flow_ir2vi`` warps the IR image onto the VI frame.

Two normalised representations deviate from this convention and are converted only here: the absolute sampling grids of
the authors' test sets, and the displacement fields inside the authors' published networks.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# In pixels, far above the float32 rounding of a sampling position. Without it, rounding would decide whether pixels
# that sample exactly at the border (identity, whole-pixel shifts) are valid.
_EDGE_TOLERANCE = 1e-3


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return pixel coordinates ``(1, 2, H, W)``: channel 0 is x = 0..W-1, channel 1 is y = 0..H-1.

    Device and dtype are those of ``like``.
    """
    y = torch.arange(height, device=like.device, dtype=like.dtype)
    x = torch.arange(width, device=like.device, dtype=like.dtype)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((grid_x, grid_y))[None]


def sample(src: Tensor, positions: Tensor, padding: str = "zeros") -> Tensor:
    """Read ``src`` ``(B, C, H, W)`` bilinearly at pixel ``positions`` ``(B, 2, h, w)``; returns ``(B, C, h, w)``.

    ``padding`` is "zeros" or "border" (the nearest edge pixel). :func:`kornia.geometry.remap` with
    ``align_corners=True`` is as fast; this function exists to state the flow convention in one place.
    """
    height, width = src.shape[-2:]
    x = (2 * positions[:, 0] + 1) / width - 1
    y = (2 * positions[:, 1] + 1) / height - 1
    grid = torch.stack((x, y), dim=-1)
    return F.grid_sample(src, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def sample_reduced(src: Tensor, positions: Tensor, padding: str = "zeros", finest: float = 1.0) -> Tensor:
    """Sample as :func:`sample`, without aliasing where ``src`` is finer than the result.

    Where neighbouring ``positions`` are more than ``finest`` pixels of ``src`` apart on the average, ``src`` is first
    reduced by that distance.
    """
    step = float((positions[..., 1:] - positions[..., :-1]).norm(dim=1).mean())
    if step <= finest:
        return sample(src, positions.to(src.dtype), padding)
    size = [max(1, round(side / step)) for side in src.shape[-2:]]
    matrix = resize_matrix(src.shape[-2:], size).to(positions)
    scale, offset = matrix.diagonal()[:2], matrix[:2, 2]
    positions = positions * scale.view(1, 2, 1, 1) + offset.view(1, 2, 1, 1)
    return sample(resize(src, size), positions.to(src.dtype), padding)


def warp(src: Tensor, flow: Tensor, padding: str = "zeros") -> Tensor:
    """Warp ``src`` ``(B, C, H, W)`` backward by ``flow`` ``(B, 2, h, w)`` in pixels: ``src(p + flow(p))``.

    The result ``(B, C, h, w)`` has the flow's size; ``padding`` as in :func:`sample`.
    """
    return sample(src, pixel_grid(*flow.shape[-2:], like=flow) + flow, padding)


def valid_mask(flow: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Mark where a warp by ``flow`` ``(B, 2, h, w)`` samples inside the source: ``(B, 1, h, w)``, 1 inside, 0 outside.

    ``size`` is the source's (height, width), by default the flow's. "Inside" means between the centres of the first and
    the last pixel, so that no zero from outside enters the bilinear interpolation.
    """
    return inside_mask(pixel_grid(*flow.shape[-2:], like=flow) + flow, size or flow.shape[-2:]).to(flow.dtype)


def inside_mask(positions: Tensor, size: Sequence[int]) -> Tensor:
    """Tell which pixel ``positions`` ``(B, 2, h, w)`` lie inside an image of ``size`` (height, width), as in
    :func:`valid_mask`; ``(B, 1, h, w)``, bool.
    """
    last = per_axis(size[1] - 1, size[0] - 1, like=positions)
    within = (positions >= -_EDGE_TOLERANCE) & (positions <= last + _EDGE_TOLERANCE)
    return within.all(dim=1, keepdim=True)


def central_rectangle(valid: Tensor) -> tuple[slice, slice]:
    """Find the largest rectangle about the centre of ``valid`` ``(H, W)`` that is wholly set: slices (rows, columns).

    A deformed image that is cropped to the central rectangle of ``valid_mask(d)`` has no black band, whose outline
    would reveal d (the band-free protocol). Raises ValueError if the centre itself is not set.
    """
    height, width = valid.shape
    inside = valid > 0
    inside = inside & inside.flip(0) & inside.flip(1) & inside.flip(0, 1)
    quarter = inside[height // 2 :, width // 2 :].int()  # row by row outwards from the centre
    half_widths = quarter.cumprod(dim=1).sum(dim=1).cummin(dim=0).values
    rows = 2 * torch.arange(1, len(quarter) + 1, device=valid.device) - height % 2
    areas = rows * (2 * half_widths - width % 2) * (half_widths > 0)
    best = int(areas.argmax())
    if areas[best] <= 0:
        raise ValueError("the centre of the image is not valid; there is no central rectangle")
    bottom, right = height // 2 + best + 1, width // 2 + int(half_widths[best])
    return slice(height - bottom, bottom), slice(width - right, right)


def content_mask(gray: Tensor) -> Tensor:
    """Mark the content of ``gray`` ``(B, 1, H, W)`` by 1, a black band along its edges by 0; same shape.

    An image that has been warped is exactly 0 where that warp sampled outside its source. The outline of this band
    reveals the warp without any image content, so a registration must not follow it: it would fail on images without
    a band. The band is every run of zeros that begins at an edge, along a row or a column; other zeros are content.
    """
    shown = gray != 0
    content = torch.ones_like(shown)
    for dim in (2, 3):
        # Inside the band, no content lies between the pixel and the edge.
        after = _running_any(shown, dim)
        before = _running_any(shown.flip(dim), dim).flip(dim)
        content &= after & before
    return content.to(gray.dtype)


def _running_any(x: Tensor, dim: int) -> Tensor:
    """Tell for every element whether it or any before it along ``dim`` is set."""
    return x.cumsum(dim, dtype=torch.int32) > 0


def resize(image: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``image`` ``(B, C, H, W)`` to ``size`` (height, width), bilinear, with antialiasing when downsampling."""
    return F.interpolate(image, tuple(size), mode="bilinear", antialias=True, align_corners=False)


def resize_matrix(old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Return the map ``(3, 3)``, float64, from an image's pixels to those it has once it is resized (:func:`resize`).

    The sizes ``old`` and ``new`` are (height, width). The edges of the frame stay in place, not the centres of its
    outermost pixels.
    """
    x, y = new[1] / old[1], new[0] / old[0]
    return torch.tensor([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]], dtype=torch.float64)


def resize_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a flow ``(B, 2, H, W)`` to ``size`` (height, width) and scale its displacements to the new pixels."""
    height, width = flow.shape[-2:]
    if (height, width) == tuple(size):
        return flow
    scale = per_axis(size[1] / width, size[0] / height, like=flow)
    return F.interpolate(flow, size=size, mode="bilinear", align_corners=False) * scale


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Compose two flows: ``warp(warp(src, first), second) = warp(src, compose(first, second))``.

    Both are ``(B, 2, H, W)`` in pixels; outside its frame ``first`` continues with its edge values.
    """
    return second + warp(first, second, padding="border")


def invert(flow: Tensor, iterations: int = 30) -> Tensor:
    """Invert a flow ``(B, 2, H, W)`` by the fixed-point iteration ``inv(p) = -flow(p + inv(p))``.

    It converges where the displacements change by less than one pixel per pixel (no folding, moderate rotation);
    outside its frame the flow continues with its edge values.
    """
    inverse = -flow
    for _ in range(iterations):
        inverse = -warp(flow, inverse, padding="border")
    return inverse


def grid_to_flow(grid: Tensor) -> Tensor:
    """Convert an absolute sampling grid of the authors' test sets to a flow in pixels.

    ``grid`` is ``(B, H, W, 2)``, x then y, in [-1, 1], meant for ``grid_sample(..., align_corners=False)``.
    Returns ``(B, 2, H, W)``.
    """
    height, width = grid.shape[1:3]
    size = torch.tensor([width, height], device=grid.device, dtype=grid.dtype)
    position = ((grid + 1) * size - 1) / 2
    return position.permute(0, 3, 1, 2) - pixel_grid(height, width, like=grid)


def flow_to_grid(flow: Tensor) -> Tensor:
    """Convert a flow ``(B, 2, H, W)`` in pixels to an absolute grid ``(B, H, W, 2)``; inverts :func:`grid_to_flow`."""
    height, width = flow.shape[-2:]
    position = (pixel_grid(height, width, like=flow) + flow).permute(0, 2, 3, 1)
    size = torch.tensor([width, height], device=flow.device, dtype=flow.dtype)
    return (2 * position + 1) / size - 1


def published_to_flow(displacement: Tensor) -> Tensor:
    """Convert a normalised displacement of the published networks to a flow in pixels; both ``(B, 2, H, W)``.

    The published code adds the displacement to the grid ``-1 + 2 i / (W - 1)``, which includes its end points, but
    samples with ``align_corners=False``: a zero displacement is a slight magnification, not the identity.
    """
    height, width = displacement.shape[-2:]
    pixel = pixel_grid(height, width, like=displacement)
    size = per_axis(width, height, like=pixel)
    return pixel / (size - 1) - 0.5 + displacement * size / 2


def flow_to_published(flow: Tensor) -> Tensor:
    """Convert a flow in pixels to the published networks' displacement; inverts :func:`published_to_flow`."""
    height, width = flow.shape[-2:]
    pixel = pixel_grid(height, width, like=flow)
    size = per_axis(width, height, like=flow)
    return (flow + 0.5 - pixel / (size - 1)) * 2 / size


def per_axis(x: float, y: float, like: Tensor) -> Tensor:
    """Return (x, y) as ``(1, 2, 1, 1)``, to broadcast over a flow; device and dtype are those of ``like``."""
    # Filled on the device: a tensor made of a list is copied to it, which waits for all work queued there.
    return torch.stack([torch.full((1, 1), value, device=like.device, dtype=like.dtype) for value in (x, y)])[None]
