"""SuperFusion: register an IR image to a VI image, then fuse the two (paper, Fig. 2)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from models.dense_matcher import DenseMatcher
from models.fusion_net import FusionNet
from models.warping import compose, resize_flow, valid_mask, warp
from utils.colour import luminance, rgb_to_ycbcr, ycbcr_to_rgb

# Arguments of DenseMatcher: our default, and what the authors' released weights were trained with.
_MATCHING = dict(correlation="cosine", cost_dilation=1, cost_sigma=1.0, inputs="structural", field="pixel")
_PUBLISHED_MATCHING = dict(correlation="squared", cost_dilation=4, cost_sigma=3.0, inputs="rgb", field="published")

SMALLEST_SIDE = 32


class SuperFusion(nn.Module):
    """The matcher and the fusion network; no optimiser, no device, no loss.

    ``published=True`` builds what the authors' released weights expect, accidents included: GSAM without its two
    sigmoids, direction weights computed but not applied, and an endpoint-inclusive sampling grid that is sampled as
    if it were not (:func:`models.warping.published_to_flow`). It serves to load those files, nothing else.

    ``passes``: the matcher runs once for each, on images reduced to that share of their size, IR warped by the flow so
    far; by default once at half and once at full resolution (the published form: once at full). Further keyword
    arguments go to :class:`models.dense_matcher.DenseMatcher`. ``architecture`` holds all arguments that rebuild the
    model.
    """

    def __init__(self, published: bool = False, passes: Sequence[float] | None = None, **matching):
        super().__init__()
        matching = (_PUBLISHED_MATCHING if published else _MATCHING) | matching
        self.passes = list(passes or ((1.0,) if published else (0.5, 1.0)))
        self.architecture = dict(published=published, passes=self.passes, **matching)
        self.matcher = DenseMatcher(**matching)
        self.fusion = FusionNet(published=published)

    def register(self, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """Register ``ir`` to ``vi``, both ``(B, 1 or 3, H, W)`` in [0, 1], H and W at least 32.

        Returns ``registered``, the IR image warped onto VI's frame, with ``ir``'s channels; ``flow_ir2vi``
        ``(B, 2, H, W)``, the backward flow in pixels that does it; and ``valid`` ``(B, 1, H, W)``, 1 where it
        sampled inside the IR image (elsewhere ``registered`` is 0). Raises ValueError for other sizes.
        """
        check_pair(ir, vi)
        flow = None
        for scale in self.passes:
            moving = ir if flow is None else warp(ir, flow)
            step = self._match(_three_channels(moving), _three_channels(vi), scale)
            flow = step if flow is None else compose(flow, step)
        return registration(ir, flow)

    def _match(self, ir: Tensor, vi: Tensor, scale: float) -> Tensor:
        size = vi.shape[-2:]
        if scale == 1:
            return self.matcher(ir, vi)["ir2vi"][-1]
        ir, vi = reduce(ir, scale), reduce(vi, scale)
        return resize_flow(self.matcher(ir, vi)["ir2vi"][-1], size)

    def fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse aligned images, both ``(B, 1 or 3, H, W)`` in [0, 1], into an RGB image ``(B, 3, H, W)`` in [0, 1].

        Their luminances are fused; the colour (Cb, Cr) is VI's.
        """
        check_pair(ir, vi)
        y, cb, cr = rgb_to_ycbcr(_three_channels(vi))
        fused = self.fusion(luminance(ir), y)
        return ycbcr_to_rgb(fused.clamp(0, 1), cb, cr)

    def compile_convolutions(self) -> None:
        """Hand the plain convolutional parts to torch.compile; the others have fast forms of their own."""
        for part in (self.matcher.pyramid, self.fusion.encoder_ir, self.fusion.encoder_vi, self.fusion.decoder):
            part.compile()

    def forward(self, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """Register, then fuse: what :meth:`register` returns, and ``fused`` ``(B, 3, H, W)`` RGB in [0, 1]."""
        result = self.register(ir, vi)
        return result | {"fused": self.fuse(result["registered"], vi)}


def unregistered(ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
    """What :meth:`SuperFusion.register` would return for IR left as it is: the baseline that any method must beat."""
    check_pair(ir, vi)
    return registration(ir, ir.new_zeros(len(ir), 2, *ir.shape[-2:])) | {"registered": ir}


def registration(ir: Tensor, flow: Tensor) -> dict[str, Tensor]:
    """``ir`` registered by the backward ``flow`` ``(B, 2, H, W)`` in pixels: see :meth:`SuperFusion.register`."""
    return {"registered": warp(ir, flow), "flow_ir2vi": flow, "valid": valid_mask(flow)}


def reduce(image: Tensor, scale: float) -> Tensor:
    """``image`` ``(B, C, H, W)`` at ``scale`` below 1 times its size, with both sides at least ``SMALLEST_SIDE``."""
    size = [max(SMALLEST_SIDE, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)


def _three_channels(image: Tensor) -> Tensor:
    return image.expand(-1, 3, -1, -1)


def check_pair(ir: Tensor, vi: Tensor) -> None:
    """Raise ValueError unless both are ``(B, 1 or 3, H, W)`` of one batch and size, both sides at least 32."""
    for name, image in (("ir", ir), ("vi", vi)):
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"{name} has shape {tuple(image.shape)}, not (B, 1 or 3, H, W)")
    if ir.shape[0] != vi.shape[0] or ir.shape[-2:] != vi.shape[-2:]:
        raise ValueError(f"ir {tuple(ir.shape)} and vi {tuple(vi.shape)} differ in batch or size")
    if min(vi.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(f"images are {tuple(vi.shape[-2:])}; both sides must have at least {SMALLEST_SIDE} pixels")
