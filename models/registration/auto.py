"""Registration by what can be trusted: the structural fit where IR and VI agree under it, elsewhere the network."""

from collections.abc import Callable

from torch import Tensor

from models.registration.structural import StructuralRegistrar
from models.results import Registration

# On 24 aligned and deformed pairs of M3SVD's validation clips, with and without black band, the affine maps that were
# off by 30 px and more reached 0.004 at most, the others, off by up to 10 px, at least 0.022.
_LEAST_AGREEMENT = 0.012


class AutoRegistrar:
    """Two registrars with the interface of :meth:`models.superfusion.SuperFusion.register` as one.

    ``network`` is the second one's ``register``; it is called only for pairs that the structural registrar fails on.
    """

    def __init__(self, network: Callable[[Tensor, Tensor], Registration]):
        self.network, self.structural = network, StructuralRegistrar()

    def register(self, ir: Tensor, vi: Tensor) -> Registration:
        """Register ``ir`` to ``vi``, both ``(B, 1 or 3, H, W)`` in [0, 1].

        ``agreement`` is the structural registrar's also where the network took over. Raises ValueError for other sizes.
        """
        result = self.structural.register(ir, vi)
        failed = ~(result.agreement >= _LEAST_AGREEMENT)
        if failed.any():
            replaced = self.network(ir[failed], vi[failed])
            for name in ("registered", "flow_ir2vi", "valid"):
                getattr(result, name)[failed] = getattr(replaced, name)
        return result
