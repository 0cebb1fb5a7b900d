"""The fused luminance that the terms ``selection`` and ``detail`` ask for; ours, not in the paper.

VI where it is well exposed, IR where it stands out from its surroundings (people, engines) or where VI is dark; and
between the two, VI with the texture of IR where VI has none (smoke, haze). Brightness is decided place by place by what
an eye would miss, not by which image is brighter: a road that is merely warm keeps the brightness that VI gives it.

Images are ``(B, 1, H, W)`` in [0, 1]; ``mask`` ``(B, 1, H, W)`` is 1 where the sources have content.
"""

import torch
from kornia.filters import guided_blur
from torch import Tensor

from losses.basics import erode
from models.layers import blur, gaussian_kernel
from utils.metrics import filters

# Windows of the averages: taps, sigma in pixels.
_BRIGHTNESS, _EDGES, _TEXTURE, _SURROUNDINGS = (13, 2.0), (25, 4.0), (49, 8.0), (145, 32.0)

# Salience: how far IR must lie above its surroundings, the range over which its weight rises to 1, and how far it may
# lie below VI (hot things behind smoke or in a glare). The guided filter (taps, regularisation) gives the weight the
# outlines of IR.
_ABOVE, _RANGE, _BELOW_VI = 0.2, 0.1, 0.1
_GUIDED = 13, 0.01

# VI is dark below this brightness (and the width of the transition); there, IR is taken where it is brighter by _LEAD
# or has more edges, with these slopes.
_DARK, _DARK_WIDTH, _LEAD, _BRIGHTNESS_SLOPE, _EDGES_SLOPE = 0.18, 0.04, 0.1, 40.0, 3.0
_EDGES_FLOOR = 1e-3

# Texture of IR is added where its edges exceed VI's by a factor e, both raised by the strength of edges that count, and
# where VI is not saturated; it moves no pixel by more than _LARGEST.
_TEXTURE_SLOPE, _TEXTURE_FLOOR, _LARGEST = 6.0, 0.1, 0.15
_SATURATED, _SATURATED_WIDTH = 0.92, 0.02


def target(ir: Tensor, vi: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``w ir + (1 - w) (vi + t (texture of ir - texture of vi))`` and w, the :func:`infrared_share`.

    The texture of an image is what differs from its average by a Gaussian of sigma 8. The share t of IR's texture is
    ``sigmoid(6 (log((E_ir + 0.1) / (E_vi + 0.1)) - 1))``, with E the edge strength (Sobel) averaged by a Gaussian of
    sigma 4, and 0 where VI is saturated.
    """
    edges_ir, edges_vi = edges = _edges(ir, vi, mask)
    lead = ((edges_ir + _TEXTURE_FLOOR) / (edges_vi + _TEXTURE_FLOOR)).log() - 1
    exposed = torch.sigmoid((_SATURATED - _average(vi, mask, _EDGES)) / _SATURATED_WIDTH)
    share = torch.sigmoid(_TEXTURE_SLOPE * lead) * exposed
    texture_ir, texture_vi = (image - _average(image, mask, _TEXTURE) for image in (ir, vi))
    background = vi + share * (texture_ir.clamp(-_LARGEST, _LARGEST) - texture_vi)
    weight = infrared_share(ir, vi, mask, edges)
    return torch.lerp(background, ir, weight).clamp(0, 1), weight


def infrared_share(ir: Tensor, vi: Tensor, mask: Tensor, edges: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Compute the weight of IR in the target, ``(B, 1, H, W)`` in [0, 1]: where it is salient, or VI is dark.

    Salient is ``s sigmoid(40 (D + 0.1))`` with the :func:`salience` s and D the difference IR - VI, averaged by a
    Gaussian of sigma 2. Where VI is dark, the weight is ``sigmoid(3 log(E_ir / E_vi) + 40 (D - 0.1))``, E as in
    :func:`target`: IR that is brighter, or shows more. ``edges`` are these E, if they are at hand.
    """
    edges_ir, edges_vi = (strength + _EDGES_FLOOR for strength in edges or _edges(ir, vi, mask))
    difference = _average(ir - vi, mask, _BRIGHTNESS)
    salient = salience(ir, mask) * torch.sigmoid(_BRIGHTNESS_SLOPE * (difference + _BELOW_VI))
    dark = torch.sigmoid((_DARK - _average(vi, mask, _EDGES)) / _DARK_WIDTH)
    more = _EDGES_SLOPE * (edges_ir / edges_vi).log() + _BRIGHTNESS_SLOPE * (difference - _LEAD)
    return 1 - (1 - salient) * (1 - dark * torch.sigmoid(more))


def salience(ir: Tensor, mask: Tensor) -> Tensor:
    """Compute how much ``ir`` stands out from its surroundings (sigma 32): 0 up to 0.2 above them, 1 from 0.3.

    A guided filter (He et al., TPAMI 2013) makes the edges of the map follow those of ``ir``.
    """
    above = _average(ir, mask, _BRIGHTNESS) - _average(ir, mask, _SURROUNDINGS)
    raw = ((above - _ABOVE) / _RANGE).clamp(0, 1) * mask
    guide = torch.where(mask > 0, ir, _average(ir, mask, _TEXTURE))
    taps, regularisation = _GUIDED
    return guided_blur(guide, raw, taps, regularisation, border_type="replicate").clamp(0, 1)


def sobel(image: Tensor) -> Tensor:
    """Return ``|Gx| + |Gy|`` of the Sobel operator, edge pixels replicated, ``(B, 1, H, W)``.

    :func:`kornia.filters.spatial_gradient` computes the same, but copies its kernel to a GPU at each call, which waits.
    """
    dx, dy = filters.sobel(image, "replicate")
    return dx.abs() + dy.abs()


def _edges(ir: Tensor, vi: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    edges = _average(torch.cat((sobel(ir), sobel(vi)), dim=1), erode(mask, 1), _EDGES)
    return edges[:, :1], edges[:, 1:]


def _average(x: Tensor, mask: Tensor, window: tuple[int, float]) -> Tensor:
    """Average ``x`` over ``mask`` inside a Gaussian window; 0 where the window contains no pixel of the mask."""
    taps, sigma = window
    blurred = blur(torch.cat((x * mask, mask), dim=1), gaussian_kernel(taps, sigma, x.device), border="replicate")
    return blurred[:, :-1] / blurred[:, -1:].clamp(min=1e-6)
