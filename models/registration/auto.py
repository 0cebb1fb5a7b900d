"""Registration by what can be trusted: the structural fit where IR and VI agree under it, elsewhere the matcher."""

from collections.abc import Callable

from torch import Tensor

from models.registration.structural import StructuralRegistrar

# On 24 aligned and deformed pairs of M3SVD's validation clips, with and without black band, the affine maps that were
# off by 30 px and more reached 0.004 at most, the others, off by up to 10 px, at least 0.022.
_LEAST_AGREEMENT = 0.012


class AutoRegistrar:
    """Two registrars with the interface of :meth:`models.superfusion.SuperFusion.register` as one.

    ``matcher`` is the second one's ``register``; it is called only for pairs that the structural registrar fails on.
    """

    def __init__(self, matcher: Callable[[Tensor, Tensor], dict[str, Tensor]]):
        self.matcher, self.structural = matcher, StructuralRegistrar()

    def register(self, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """Register ``ir`` to ``vi``, both ``(B, 1 or 3, H, W)`` in [0, 1].

        Returns what :meth:`models.registration.structural.StructuralRegistrar.register` does; ``agreement`` is the
        structural registrar's also where the matcher took over. Raises ValueError for other sizes.
        """
        result = self.structural.register(ir, vi)
        failed = ~(result["agreement"] >= _LEAST_AGREEMENT)
        if failed.any():
            for name, tensor in self.matcher(ir[failed], vi[failed]).items():
                result[name][failed] = tensor
        return result
