"""DenseMatcher: a dense, multi-scale registration field between an IR and a VI image (SuperFusion, Sec. III-B).

A feature pyramid gives features at 1/2, 1/4 and 1/8. A flow is estimated at 1/8, refined by a residual at 1/4
and once more at 1/2, and upsampled to full size. All flows follow the convention of ``models/warping.py``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.correlation import local_correlation
from models.layers import ConvBlock, blur, gaussian_kernel
from models.published import PublishedField
from models.structural_inputs import structural_channels
from models.warping import resize_flow, warp

_SEARCH_RADIUS = 3
_FLOW_LIMIT = 300.0


class PixelField:
    """How the matcher keeps its flow between the scales: in pixels of the scale, the project's convention."""

    warp = staticmethod(warp)
    resize = staticmethod(resize_flow)

    @staticmethod
    def from_pixels(flow: Tensor) -> Tensor:
        return flow

    to_pixels = to_flow = from_pixels


class Stem(nn.Module):
    """Four convolutions 3-8-8-16-16 at full resolution; those that keep the channel count are residual."""

    def __init__(self):
        super().__init__()
        self.lift1 = ConvBlock(3, 8, dilation=1, norm="instance", slope=0.1)
        self.residual1 = ConvBlock(8, 8, dilation=2, norm="instance", slope=0.0)
        self.lift2 = ConvBlock(8, 16, dilation=2, norm="instance", slope=0.1)
        self.residual2 = ConvBlock(16, 16, dilation=4, norm="instance", slope=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, 16, H, W)``."""
        x = self.lift1(x)
        x = x + self.residual1(x)
        x = self.lift2(x)
        return x + self.residual2(x)


class FeaturePyramid(nn.Module):
    """A stem for each modality, then three shared stages, each halving the resolution."""

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
        """Features of ``image`` ``(B, 3, H, W)`` of ``modality`` "ir" or "vi".

        Returns ``(B, 32, H/2, W/2)``, ``(B, 64, H/4, W/4)`` and ``(B, 128, H/8, W/8)``, sizes rounded up.
        """
        x = {"ir": self.stem_ir, "vi": self.stem_vi}[modality](image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def cost_volume(src: Tensor, tgt: Tensor, correlation: str, dilation: int, sigma: float) -> Tensor:
    """Compare every target feature with a 7x7 neighbourhood of the blurred source features.

    ``src`` and ``tgt`` are ``(B, C, H, W)``; the neighbours stand ``dilation`` pixels apart; the blur has ``sigma``
    and about twice that on either side. Returns ``(B, 49, H, W)``, row by row from the upper left neighbour:
    ``correlation="squared"`` is the mean squared difference over channels, "cosine" the cosine similarity.
    """
    src = blur(src, gaussian_kernel(4 * round(sigma) + 1, sigma), border="zero")
    # Under autocast too: whole features are compared, and small differences matter.
    with torch.autocast(src.device.type, enabled=False):
        if correlation == "cosine":
            src, tgt = F.normalize(src, dim=1), F.normalize(tgt.float(), dim=1)
            return local_correlation(src, tgt, _SEARCH_RADIUS, dilation)
        return _squared_differences(src, tgt.float(), dilation)


def _squared_differences(src: Tensor, tgt: Tensor, dilation: int) -> Tensor:
    """The mean over channels of (s - t)^2, as s^2 - 2 s t + t^2; the source is zero outside."""
    span, reach = 2 * _SEARCH_RADIUS + 1, _SEARCH_RADIUS * dilation
    energy = F.unfold(src.square().mean(dim=1, keepdim=True), span, dilation=dilation, padding=reach)
    product = local_correlation(src, tgt, _SEARCH_RADIUS, dilation) / src.shape[1]
    return energy.unflatten(2, src.shape[-2:]) - 2 * product + tgt.square().mean(dim=1, keepdim=True)


class FlowEstimator(nn.Module):
    """A flow residual from source and target features of one scale (at 1/8 with 128 channels, at 1/4 with 64)."""

    cost_volume = staticmethod(cost_volume)

    def __init__(self, channels: int, dilation: int, correlation: str, cost_dilation: int, cost_sigma: float):
        super().__init__()
        self.cost_options = dict(correlation=correlation, dilation=cost_dilation, sigma=cost_sigma)
        self.project = ConvBlock(channels, channels, dilation=dilation)
        self.compress = nn.Sequential(
            ConvBlock(2 * channels, 2 * channels, slope=0.1), ConvBlock(2 * channels, channels)
        )
        neighbours = (2 * _SEARCH_RADIUS + 1) ** 2
        self.estimate = nn.Sequential(
            ConvBlock(channels + neighbours, channels // 2, dilation=1, norm="batch", slope=0.1),
            ConvBlock(channels // 2, channels // 4, dilation=2, norm="batch", slope=0.1),
            ConvBlock(channels // 4, channels // 8, dilation=4, norm="batch", slope=0.1),
            ConvBlock(channels // 8, 2),
        )
        self.register_buffer("kernel", gaussian_kernel(13, 3.0), persistent=False)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        """``src``, ``tgt`` ``(B, C, h, w)`` to the flow ``(B, 2, h, w)`` from target to source, in feature pixels."""
        src, tgt = self.project(src), self.project(tgt)
        context = self.compress(torch.cat((src, tgt), dim=1))
        cost = self.cost_volume(src, tgt, **self.cost_options)
        flow = self.estimate(torch.cat((context, cost), dim=1))
        return blur(flow, self.kernel, border="replicate").clamp(-_FLOW_LIMIT, _FLOW_LIMIT)


class FlowRefiner(nn.Module):
    """The last residual, at 1/2 resolution, from features and the flow so far."""

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
    """Registration fields between an IR and a VI image, in one direction or both.

    ``correlation`` ("cosine" or "squared"), ``cost_dilation`` and ``cost_sigma`` shape the cost volumes;
    ``inputs`` is "structural" (:func:`models.structural_inputs.structural_channels`) or "rgb"; ``field`` is "pixel" or
    "published", the released weights' way of keeping a flow (:class:`models.published.PublishedField`).
    """

    def __init__(
        self,
        *,
        correlation: str,
        cost_dilation: int,
        cost_sigma: float,
        inputs: str,
        field: str,
    ):
        super().__init__()
        for name, value, known in (
            ("correlation", correlation, ("cosine", "squared")),
            ("inputs", inputs, ("structural", "rgb")),
            ("field", field, ("pixel", "published")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(known)}")
        self.structural = inputs == "structural"
        self.field = PublishedField if field == "published" else PixelField
        self.pyramid = FeaturePyramid()
        self.coarse = FlowEstimator(128, 2, correlation, cost_dilation, cost_sigma)
        self.fine = FlowEstimator(64, 4, correlation, cost_dilation, cost_sigma)
        self.refine = FlowRefiner()

    def forward(self, ir: Tensor, vi: Tensor, directions=("ir2vi",)) -> dict[str, list[Tensor]]:
        """Estimate the flows between ``ir`` and ``vi``, both ``(B, 3, H, W)`` in [0, 1], H and W at least 32.

        Returns for each of ``directions`` ("ir2vi" warps IR onto VI's frame, "vi2ir" the other way round) the
        flows after the scales 1/8, 1/4 and 1/2, coarse to fine, each ``(B, 2, h, w)`` in pixels of its scale; the
        last one is upsampled to full size, ``(B, 2, H, W)``, and is the result.
        """
        size = vi.shape[-2:]
        if self.structural:
            ir, vi = structural_channels(ir), structural_channels(vi)
        features = {"ir": self.pyramid(ir, "ir"), "vi": self.pyramid(vi, "vi")}
        return {
            direction: self.match(*(features[modality] for modality in direction.split("2")), size)
            for direction in directions
        }

    def match(self, src: list[Tensor], tgt: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Flows from target to source features, coarse to fine; see :meth:`forward`."""
        field = self.field
        half, quarter = (feature.shape[-2:] for feature in tgt[:2])

        flow8 = field.from_pixels(self.coarse(src[2], tgt[2]))

        flow4 = field.resize(flow8, quarter)
        flow4 = flow4 + field.from_pixels(self.fine(field.warp(src[1], flow4), tgt[1]))

        flow2 = field.resize(flow4, half)
        refined = self.refine(field.warp(src[0], flow2), tgt[0], field.to_pixels(flow2))
        flow = field.resize(field.from_pixels(refined), size)

        return [field.to_flow(flow8), field.to_flow(flow4), field.to_flow(flow)]
