"""Alternative implementations ("forms") of an operation: same arguments, same result.

An operation decorated with :func:`has_forms` runs its own code unless it is called inside :func:`computed_as`. The
benchmark's baseline and the ONNX export replace operations in this way, without a change to any network.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import MappingProxyType

_NONE: Mapping[str, Callable] = MappingProxyType({})
_forms: ContextVar[Mapping[str, Callable]] = ContextVar("forms", default=_NONE)


def has_forms(operation: Callable) -> Callable:
    """Decorate ``operation`` so that :func:`computed_as` can replace it by name."""

    @wraps(operation)
    def computed(*args, **options):
        return _forms.get().get(operation.__name__, operation)(*args, **options)

    return computed


@contextmanager
def computed_as(forms: Mapping[str, Callable]) -> Iterator[None]:
    """Replace, inside ``with``, the operations named in ``forms`` by the functions they map to."""
    token = _forms.set(forms)
    try:
        yield
    finally:
        _forms.reset(token)
