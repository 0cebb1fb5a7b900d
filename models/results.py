"""The results of registering and fusing a pair, and the check of a pair's shapes."""

from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import Self

from models.warping import valid_mask, warp

SMALLEST_SIDE = 32


@dataclass
class Registration:
    """A batch of IR images registered to VI images.

    ``registered`` ``(B, C, H, W)`` is IR warped onto VI's frame, with IR's channels, 0 where the warp samples outside
    IR; ``flow_ir2vi`` ``(B, 2, H, W)`` is the backward flow of that warp in pixels (:mod:`models.warping`); ``valid``
    ``(B, 1, H, W)`` is 1 where the warp samples inside IR. ``agreement`` ``(B,)``, at most 1, is the registrar's
    measure of how well the registered image matches VI; None if the registrar has no such measure.
    """

    registered: Tensor
    flow_ir2vi: Tensor
    valid: Tensor
    agreement: Tensor | None = None

    @classmethod
    def by_flow(cls, ir: Tensor, flow: Tensor, agreement: Tensor | None = None) -> "Registration":
        """Register ``ir`` ``(B, C, H, W)`` by the backward ``flow`` ``(B, 2, H, W)`` in pixels."""
        return cls(warp(ir, flow), flow, valid_mask(flow), agreement)

    def cpu(self) -> Self:
        """Return a copy with all tensors on the CPU."""
        return replace(self, **{name: tensor.cpu() for name, tensor in vars(self).items() if tensor is not None})


@dataclass
class Result(Registration):
    """A registration and its fused image ``fused`` ``(B, 3, H, W)``, RGB in [0, 1]."""

    fused: Tensor | None = None


def check_pair(ir: Tensor, vi: Tensor) -> None:
    """Raise ValueError unless both are ``(B, 1 or 3, H, W)`` of one batch and size, both sides at least 32."""
    for name, image in (("ir", ir), ("vi", vi)):
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"{name} has shape {tuple(image.shape)}, not (B, 1 or 3, H, W)")
    if ir.shape[0] != vi.shape[0] or ir.shape[-2:] != vi.shape[-2:]:
        raise ValueError(f"ir {tuple(ir.shape)} and vi {tuple(vi.shape)} differ in batch or size")
    if min(vi.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(f"images are {tuple(vi.shape[-2:])}; both sides must have at least {SMALLEST_SIDE} pixels")
