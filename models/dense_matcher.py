"""DenseMatcher: estimate a dense flow between an IR and a VI image, coarse to fine (SuperFusion, Sec. III-B).

A feature pyramid yields features at 1/2, 1/4 and 1/8 of the resolution. A flow is estimated at 1/8, refined by a
residual at 1/4 and another at 1/2, and upsampled to full size. All flows follow the convention of
``models/warping.py``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.correlation import SEARCH_RADIUS, cost_volume
from models.layers import ConvBlock, blur, gaussian_kernel
from models.structural_inputs import structural_channels
from models.warping import resize_flow, warp

_FLOW_LIMIT = 300.0


class Stem(nn.Module):
    """Four convolutions 3-8-8-16-16 at full resolution; the second and the fourth have a residual connection."""

    def __init__(self):
        super().__init__()
        self.lift1 = ConvBlock(3, 8, dilation=1, norm="instance", slope=0.1)
        self.residual1 = ConvBlock(8, 8, dilation=2, norm="instance", slope=0.0)
        self.lift2 = ConvBlock(8, 16, dilation=2, norm="instance", slope=0.1)
        self.residual2 = ConvBlock(16, 16, dilation=4, norm="instance", slope=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, 3, H, W)`` to ``(B, 16, H, W)``."""
        x = self.lift1(x)
        x = x + self.residual1(x)
        x = self.lift2(x)
        return x + self.residual2(x)


class FeaturePyramid(nn.Module):
    """One stem per modality, then three shared stages, each of which halves the resolution."""

    def __init__(self):
        super().__init__()
        self.stem_ir = Stem()
        self.stem_vi = Stem()
        self.stages = nn.ModuleList(
            nn.Sequential(
                ConvBlock(c_in, c_out, dilation=dilation, norm="instance", slope=0.1),
                ConvBlock(c_out, c_out, dilation=dilation, stride=2, norm="instance", slope=0.1),
            )
            for c_in, c_out, dilation in ((16, 32, 1), (32, 64, 2), (64, 128, 4))
        )

    def forward(self, image: Tensor, modality: str) -> list[Tensor]:
        """Extract features from ``image`` ``(B, 3, H, W)`` of ``modality`` "ir" or "vi".

        Returns ``(B, 32, H/2, W/2)``, ``(B, 64, H/4, W/4)`` and ``(B, 128, H/8, W/8)``, sizes rounded up.
        """
        x = {"ir": self.stem_ir, "vi": self.stem_vi}[modality](image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class FlowEstimator(nn.Module):
    """Estimate a flow from source and target features of one scale (1/8 with 128 channels, 1/4 with 64)."""

    def __init__(self, channels: int, dilation: int, correlation: str, cost_dilation: int, cost_sigma: float):
        super().__init__()
        self.cost_options = dict(correlation=correlation, dilation=cost_dilation, sigma=cost_sigma)
        self.project = ConvBlock(channels, channels, dilation=dilation)
        self.compress = nn.Sequential(
            ConvBlock(2 * channels, 2 * channels, slope=0.1), ConvBlock(2 * channels, channels)
        )
        neighbours = (2 * SEARCH_RADIUS + 1) ** 2
        self.estimate = nn.Sequential(
            ConvBlock(channels + neighbours, channels // 2, dilation=1, norm="batch", slope=0.1),
            ConvBlock(channels // 2, channels // 4, dilation=2, norm="batch", slope=0.1),
            ConvBlock(channels // 4, channels // 8, dilation=4, norm="batch", slope=0.1),
            ConvBlock(channels // 8, 2),
        )
        self.register_buffer("kernel", gaussian_kernel(13, 3.0), persistent=False)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        """Map ``src``, ``tgt`` ``(B, C, h, w)`` to the flow ``(B, 2, h, w)`` from tgt to src, in feature pixels."""
        src, tgt = self.project(src), self.project(tgt)
        context = self.compress(torch.cat((src, tgt), dim=1))
        cost = cost_volume(src, tgt, **self.cost_options)
        flow = self.estimate(torch.cat((context, cost), dim=1))
        return blur(flow, self.kernel, border="replicate").clamp(-_FLOW_LIMIT, _FLOW_LIMIT)


class FlowRefiner(nn.Module):
    """Refine a flow at 1/2 resolution by a residual estimated from the features and the flow itself."""

    def __init__(self, channels: int = 32):
        super().__init__()
        self.project = ConvBlock(channels, channels)
        self.compress = nn.Sequential(
            ConvBlock(2 * channels, 2 * channels, slope=0.1), ConvBlock(2 * channels, channels)
        )
        self.estimate = nn.Sequential(
            ConvBlock(channels + 2, 16, dilation=1, norm="batch", slope=0.1),
            ConvBlock(16, 8, dilation=2, norm="batch", slope=0.1),
            ConvBlock(8, 4, dilation=4, norm="batch", slope=0.1),
            ConvBlock(4, 2),
        )
        self.register_buffer("kernel", gaussian_kernel(17, 5.0), persistent=False)

    def forward(self, src: Tensor, tgt: Tensor, flow: Tensor) -> Tensor:
        """Refine ``flow`` ``(B, 2, h, w)`` in feature pixels; ``src`` is already warped by it."""
        context = self.compress(torch.cat((self.project(src), self.project(tgt)), dim=1))
        refined = flow + self.estimate(torch.cat((context, flow), dim=1))
        return blur(refined, self.kernel, border="replicate")


class DenseMatcher(nn.Module):
    """Estimate the flows between an IR and a VI image, in one direction or both.

    ``correlation`` ("cosine" or "squared"), ``cost_dilation`` and ``cost_sigma`` shape the cost volumes
    (:func:`models.correlation.cost_volume`); ``inputs`` is "structural"
    (:func:`models.structural_inputs.structural_channels`) or "rgb". ``architecture`` holds the arguments.
    """

    def __init__(
        self,
        correlation: str = "cosine",
        cost_dilation: int = 1,
        cost_sigma: float = 1.0,
        inputs: str = "structural",
    ):
        super().__init__()
        for name, value, known in (
            ("correlation", correlation, ("cosine", "squared")),
            ("inputs", inputs, ("structural", "rgb")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(known)}")
        self.structural = inputs == "structural"
        self.architecture = dict(
            correlation=correlation, cost_dilation=cost_dilation, cost_sigma=cost_sigma, inputs=inputs
        )
        self.pyramid = FeaturePyramid()
        self.coarse = FlowEstimator(128, 2, correlation, cost_dilation, cost_sigma)
        self.fine = FlowEstimator(64, 4, correlation, cost_dilation, cost_sigma)
        self.refine = FlowRefiner()

    def forward(self, ir: Tensor, vi: Tensor, directions: Sequence[str] = ("ir2vi",)) -> dict[str, list[Tensor]]:
        """Estimate the flows between ``ir`` and ``vi``, both ``(B, 3, H, W)`` in [0, 1], H and W at least 32.

        Returns, for each of ``directions`` ("ir2vi" warps IR onto VI's frame, "vi2ir" the reverse), the flows of the
        scales 1/8, 1/4 and 1/2, coarse to fine, ``(B, 2, h, w)`` in pixels of their scale; the last one is upsampled
        to full size, ``(B, 2, H, W)``, and is the result.
        """
        size = vi.shape[-2:]
        if self.structural:
            ir, vi = structural_channels(ir), structural_channels(vi)
        features = {"ir": self.pyramid(ir, "ir"), "vi": self.pyramid(vi, "vi")}
        flows = {}
        for direction in directions:
            source, target = direction.split("2")
            flows[direction] = self.match(features[source], features[target], size)
        return flows

    def compile_convolutions(self) -> None:
        """Compile the pyramid with torch.compile; the cost volumes are optimised by hand."""
        self.pyramid.compile()

    def match(self, src: list[Tensor], tgt: list[Tensor], size: Sequence[int]) -> list[Tensor]:
        """Estimate the flows from target to source features, coarse to fine; see :meth:`forward`."""
        half, quarter = (feature.shape[-2:] for feature in tgt[:2])

        flow8 = self.coarse(src[2], tgt[2])

        flow4 = resize_flow(flow8, quarter)
        flow4 = flow4 + self.fine(warp(src[1], flow4), tgt[1])

        flow2 = resize_flow(flow4, half)
        flow2 = self.refine(warp(src[0], flow2), tgt[0], flow2)

        return [flow8, flow4, resize_flow(flow2, size)]
