"""The registrars by name: the choices of ``--registrar`` and of :class:`models.pipeline.Pipeline`."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from models.registration.auto import AutoRegistrar
from models.registration.structural import StructuralRegistrar
from models.results import Registration, check_pair

Registrar = Callable[[Tensor, Tensor], Registration]


@dataclass(frozen=True)
class Entry:
    """A registrar and how it is made; it registers IR ``(B, 1 or 3, H, W)`` to VI of that size.

    ``make`` gets the network's ``register``, or None if the registrar does not use it and it is not loaded.
    """

    make: Callable[[Registrar | None], Registrar]
    uses_network: bool
    description: str


def unregistered(ir: Tensor, vi: Tensor) -> Registration:
    """IR left as it is, with a flow of zeros: the baseline that any method must beat."""
    check_pair(ir, vi)
    flow = ir.new_zeros(len(ir), 2, *ir.shape[-2:])
    return Registration(ir, flow, flow.new_ones(len(ir), 1, *ir.shape[-2:]))


# A registrar of your own is one more line here.
REGISTRARS: dict[str, Entry] = {
    "auto": Entry(
        lambda network: AutoRegistrar(network).register,
        True,
        "structural, or the network for pairs on which that fails",
    ),
    "matcher": Entry(lambda network: network, True, "the network alone"),
    "structural": Entry(
        lambda network: StructuralRegistrar().register,
        False,
        "a fit of an affine map and a smooth displacement, without training",
    ),
    "none": Entry(lambda network: unregistered, False, "leave IR as it is"),
}
