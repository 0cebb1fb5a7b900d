"""The registrars by name: the choices of ``--registrar`` and of :class:`models.pipeline.Pipeline`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from models.registration.registrar import Registrar
from models.registration.transform import Transform
from models.results import Registration, check_images
from models.warping import pixel_grid, resize, sample_reduced, valid_mask

# IR that is finer than this many of its pixels in one of VI is reduced before sampling, as it would alias; not before,
# since that costs sharpness.
_FINEST = 1.5

# Registers IR (B, 1 or 3, h, w) to VI (B, 1 or 3, H, W), both in [0, 1], of any two sizes.
Register = Callable[[Tensor, Tensor], Registration]


@dataclass(frozen=True)
class Entry:
    """A registrar and how it is made.

    ``make`` gets the network's ``register``, which takes images of one size, or None if the registrar does not use it
    and it is not loaded; and, as keywords, the arguments ``search``, ``scale`` and ``rotation`` of
    :class:`models.registration.registrar.Registrar`.
    """

    make: Callable[..., Register]
    uses_network: bool
    description: str
    decides: bool = False  # whether it accepts or refuses its answer


def registered(ir: Tensor, transforms: list[Transform]) -> Registration:
    """``ir`` ``(B, C, h, w)`` registered by a transform for each image of the batch."""
    positions = torch.stack([transform.map_vi2ir() for transform in transforms])
    return replace(registered_at(ir, positions), transforms=transforms)


def registered_at(ir: Tensor, positions: Tensor) -> Registration:
    """``ir`` ``(B, C, h, w)`` registered by the ``positions`` ``(B, 2, H, W)`` in it, in pixels, of VI's pixels."""
    positions = positions.to(ir.device)
    flow = positions - pixel_grid(*positions.shape[-2:], like=positions)
    pairs = zip(ir.split(1), positions.split(1))
    values = torch.cat([sample_reduced(image, there, finest=_FINEST) for image, there in pairs])
    return Registration(values, flow, valid_mask(flow, ir.shape[-2:]))


def by_decision(registrar: Callable[[Tensor, Tensor], Transform], ir: Tensor, vi: Tensor) -> Registration:
    """Register the pairs of a batch one after the other by a ``registrar`` that accepts or refuses its answer."""
    check_images(ir, vi)
    transforms = [registrar(*pair) for pair in zip(ir.split(1), vi.split(1))]
    registration = registered(ir, transforms)
    registration.accepted = torch.tensor([transform.accepted for transform in transforms])
    registration.confidence = torch.tensor([transform.confidence for transform in transforms])
    return registration


def by_network(network: Register, ir: Tensor, vi: Tensor) -> Registration:
    """Register by the network alone, IR's frame fitted to VI's first if they differ."""
    check_images(ir, vi)
    same_size = ir.shape[-2:] == vi.shape[-2:]
    found = network(ir if same_size else resize(ir, vi.shape[-2:]), vi)
    frames = Transform.of_frames(_size(vi), _size(ir))
    transforms = [replace(frames, displacement=flow, source="network") for flow in found.flow_ir2vi.cpu()]
    if not same_size:
        return registered(ir, transforms)
    found.transforms = transforms
    return found


def unregistered(ir: Tensor, vi: Tensor) -> Registration:
    """Leave IR as it is, its frame fitted to VI's if they differ: the baseline that any method must beat."""
    check_images(ir, vi)
    return registered(ir, [Transform.of_frames(_size(vi), _size(ir))] * len(ir))


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-1], image.shape[-2]


def _auto(network: Register, **search) -> Register:
    return partial(by_decision, Registrar(network=lambda ir, vi: network(ir, vi).flow_ir2vi, **search))


# A registrar of your own is one more line here.
REGISTRARS: dict[str, Entry] = {
    "auto": Entry(_auto, True, "structural and the network: the mean of both where they agree, else the better", True),
    "matcher": Entry(lambda network, **search: partial(by_network, network), True, "the network alone"),
    "structural": Entry(
        lambda network, **search: partial(by_decision, Registrar(**search)),
        False,
        "search and fit by structural descriptors, without training",
        True,
    ),
    "none": Entry(lambda network, **search: unregistered, False, "leave IR as it is"),
}
