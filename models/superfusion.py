"""SuperFusion: register an IR image to a VI image, then fuse the two (paper, Fig. 2)."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.blending import content, fade
from models.consensus import affine_consensus
from models.dense_matcher import DenseMatcher
from models.fusion_net import FusionNet
from models.results import SMALLEST_SIDE, Registration, Result, check_pair
from models.warping import compose, resize, resize_flow, valid_mask, warp
from utils.colour import luminance, rgb_to_ycbcr, ycbcr_to_rgb

PASSES = (0.5, 1.0)
LOCAL = 0.4


class SuperFusion(nn.Module):
    """The matcher and the fusion network.

    ``matcher`` and ``fusion`` are networks with the interfaces of :class:`models.dense_matcher.DenseMatcher` and
    :class:`models.fusion_net.FusionNet`, which are the defaults. The matcher runs once for each of ``passes``, on
    images reduced to that fraction of their size, with IR warped by the flow of the passes before; by default once at
    half and once at full resolution. After each pass the flow is reduced to the affine map that most of it agrees on
    and a share ``local`` of the rest (:func:`models.consensus.affine_consensus`); None leaves it as it is. Training
    runs the matcher once per step and imitates later passes by samples that are nearly registered (``data.residual``).
    Raises ValueError for a pass beyond (0, 1].
    """

    def __init__(
        self,
        matcher: nn.Module | None = None,
        fusion: nn.Module | None = None,
        passes: Sequence[float] = PASSES,
        local: float | None = LOCAL,
    ):
        super().__init__()
        self.matcher = DenseMatcher() if matcher is None else matcher
        self.fusion = FusionNet() if fusion is None else fusion
        self.passes, self.local = tuple(passes), local
        if not all(0 < scale <= 1 for scale in self.passes):
            raise ValueError(f"passes {self.passes} are shares of the images' size, above 0 and at most 1")

    def register(self, ir: Tensor, vi: Tensor) -> Registration:
        """Register ``ir`` to ``vi``, both ``(B, 1 or 3, H, W)`` in [0, 1], H and W at least 32.

        A colour picture as IR is matched by its luminance, as in training. Raises ValueError for other shapes or types.
        """
        check_pair(ir, vi)
        flow, gray = None, luminance(ir)
        for scale in self.passes:
            moving = gray if flow is None else warp(gray, flow)
            step = self._match(_three_channels(moving), _three_channels(vi), scale)
            flow = step if flow is None else compose(flow, step)
            if self.local is not None:
                flow = affine_consensus(flow, valid_mask(flow), self.local)
        return Registration.by_flow(ir, flow)

    def _match(self, ir: Tensor, vi: Tensor, scale: float) -> Tensor:
        size = vi.shape[-2:]
        ir, vi = reduce(ir, scale), reduce(vi, scale)
        return resize_flow(self.matcher(ir, vi)["ir2vi"][-1], size)

    def fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse aligned images, both ``(B, 1 or 3, H, W)`` in [0, 1], into an RGB image ``(B, 3, H, W)`` in [0, 1].

        The luminances are fused; the chrominance (Cb, Cr) is that of VI.
        """
        check_pair(ir, vi)
        y, cb, cr = rgb_to_ycbcr(_three_channels(vi))
        fused = self.fusion(luminance(ir), y)
        return ycbcr_to_rgb(fused.clamp(0, 1), cb, cr)

    def forward(self, ir: Tensor, vi: Tensor) -> Result:
        """Register, fuse and blend; where the registered image has no content, the result is VI."""
        registration = self.register(ir, vi)
        fused = self.fuse(registration.registered, vi)
        return Result(**vars(registration), fused=fade(fused, vi, content(ir, registration)))

    def compile_convolutions(self) -> None:
        """Call each network's ``compile_convolutions``; a network without one is compiled as a whole."""
        for network in (self.matcher, self.fusion):
            getattr(network, "compile_convolutions", network.compile)()


def reduce(image: Tensor, scale: float) -> Tensor:
    """Resize ``image`` ``(B, C, H, W)`` by ``scale`` <= 1, to at least ``SMALLEST_SIDE`` on both sides."""
    if scale == 1:
        return image
    return resize(image, [max(SMALLEST_SIDE, round(side * scale)) for side in image.shape[-2:]])


def _three_channels(image: Tensor) -> Tensor:
    return image.expand(-1, 3, -1, -1)
