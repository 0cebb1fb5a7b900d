"""The results of registering and fusing a pair, and the check of a pair's shapes."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from models.warping import valid_mask, warp

SMALLEST_SIDE = 32  # of VI, and of IR where both have one size
SMALLEST_IR = 16
_ROUNDING = 1e-3  # by which a resize may leave [0, 1]


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


def as_images(name: str, image: Tensor) -> Tensor:
    """Return ``image`` ``(B, C, H, W)`` in [0, 1], of any float type, as float32; ``name`` is for messages.

    Raises ValueError for what is no tensor, for integers, NaN, and values outside [0, 1].
    """
    check_type(name, image)
    if not image.numel():
        return image.float()
    low, high = (float(bound) for bound in image.aminmax())
    if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
        given = "holds NaN" if low != low or high != high else f"has values from {low:g} to {high:g}"
        raise ValueError(f"{name} {given}; images lie in [0, 1]: divide 8-bit values by 255, stretch measurements")
    return image.float()


def check_type(name: str, image: Tensor) -> None:
    """Raise ValueError unless ``image`` is a tensor of floats."""
    if not isinstance(image, Tensor):
        kind = f"{type(image).__module__.partition('.')[0]}.{type(image).__name__}"
        raise ValueError(
            f"{name} is a {kind}, not a tensor; of an 8-bit array (H, W, 3): "
            "torch.from_numpy(array).permute(2, 0, 1)[None] / 255"
        )
    if not image.is_floating_point():
        raise ValueError(f"{name} holds {image.dtype}, not floats in [0, 1]; divide 8-bit values by 255")


def check_images(ir: Tensor, vi: Tensor) -> None:
    """Raise ValueError unless both are tensors of floats ``(B, 1 or 3, H, W)`` of one batch, IR's sides at least 16,
    VI's at least 32.
    """
    for name, image, least in (("ir", ir, SMALLEST_IR), ("vi", vi, SMALLEST_SIDE)):
        check_type(name, image)
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"{name} has shape {tuple(image.shape)}, not (B, 1 or 3, H, W)")
        if min(image.shape[-2:]) < least:
            raise ValueError(f"{name} is {tuple(image.shape[-2:])}; both sides must have at least {least} pixels")
    if ir.shape[0] != vi.shape[0]:
        raise ValueError(f"ir {tuple(ir.shape)} and vi {tuple(vi.shape)} differ in batch")


def check_pair(ir: Tensor, vi: Tensor) -> None:
    """Raise ValueError unless both are as in :func:`check_images`, of one size and of the networks' type."""
    check_images(ir, vi)
    for name, image in (("ir", ir), ("vi", vi)):
        if image.dtype == torch.float64:
            raise ValueError(f"{name} holds torch.float64; the networks take float32: {name}.float()")
    if ir.shape[-2:] != vi.shape[-2:]:
        raise ValueError(f"ir {tuple(ir.shape)} and vi {tuple(vi.shape)} differ in batch or size")
