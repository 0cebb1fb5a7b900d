"""The results of registering and fusing a pair, and the check of a pair's shapes."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from typing_extensions import Self

from models.warping import valid_mask, warp

SMALLEST_SIDE = 32  # of VI, and of IR where both have one size
SMALLEST_IR = 16


@dataclass
class Registration:
    """An IR image registered to a VI image, as a batch; the two may differ in size.

    ``registered`` ``(B, C, H, W)`` is IR warped onto VI's frame, with IR's channels, 0 where the warp looked outside;
    ``flow_ir2vi`` ``(B, 2, H, W)`` the backward flow that warps it: VI's pixel ``p`` lies at ``p + flow(p)`` in IR, in
    IR's own pixels (:mod:`models.warping`); ``valid`` ``(B, 1, H, W)`` is 1 where it sampled inside IR.

    A registrar that decides also gives ``confidence`` ``(B,)`` in [0, 1], how probable it is that the map is right, and
    ``accepted`` ``(B,)``, whether that is enough; ``transforms`` holds a
    :class:`models.registration.transform.Transform` for each pair. None from one that does not.
    """

    registered: Tensor
    flow_ir2vi: Tensor
    valid: Tensor
    accepted: Tensor | None = None
    confidence: Tensor | None = None
    transforms: list | None = None

    @classmethod
    def by_flow(cls, ir: Tensor, flow: Tensor) -> "Registration":
        """``ir`` ``(B, C, h, w)`` registered by the backward ``flow`` ``(B, 2, H, W)``."""
        return cls(warp(ir, flow), flow, valid_mask(flow, tuple(ir.shape[-2:])))

    def without(self, missing: Tensor) -> Self:
        """The same where IR has no values at ``missing`` ``(B, 1, h, w)`` bool: not valid, 0 where they would enter."""
        there = warp((~missing).to(self.flow_ir2vi.dtype), self.flow_ir2vi) > 1 - 1e-4
        valid = self.valid * there.to(self.valid.dtype)
        return replace(self, registered=self.registered * valid, valid=valid)

    def cpu(self) -> Self:
        """The same with all tensors on the CPU."""
        moved: dict[str, Any] = {name: value.cpu() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass
class Result(Registration):
    """A registration and its fused image ``fused`` ``(B, 3, H, W)``, RGB in [0, 1]."""

    fused: Tensor | None = None


def check_images(ir: Tensor, vi: Tensor) -> None:
    """Raise ValueError unless both are ``(B, 1 or 3, H, W)`` of one batch, IR's sides at least 16, VI's at least 32."""
    for name, image, least in (("ir", ir, SMALLEST_IR), ("vi", vi, SMALLEST_SIDE)):
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"{name} has shape {tuple(image.shape)}, not (B, 1 or 3, H, W)")
        if min(image.shape[-2:]) < least:
            raise ValueError(f"{name} is {tuple(image.shape[-2:])}; both sides must have at least {least} pixels")
    if ir.shape[0] != vi.shape[0]:
        raise ValueError(f"ir {tuple(ir.shape)} and vi {tuple(vi.shape)} differ in batch")


def check_pair(ir: Tensor, vi: Tensor) -> None:
    """Raise ValueError unless both are as in :func:`check_images` and of one size."""
    check_images(ir, vi)
    if ir.shape[-2:] != vi.shape[-2:]:
        raise ValueError(f"ir {tuple(ir.shape)} and vi {tuple(vi.shape)} differ in batch or size")
