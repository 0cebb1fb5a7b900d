"""Other forms of an operation: the same function of the same arguments, computed in another way.

An operation that is marked with :func:`has_forms` computes as it is written, unless it is called inside
:func:`computed_as`. The yardstick of the benchmark and the ONNX export replace operations so; no network knows of it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import MappingProxyType

_NONE: Mapping[str, Callable] = MappingProxyType({})
_forms: ContextVar[Mapping[str, Callable]] = ContextVar("forms", default=_NONE)


def has_forms(operation: Callable) -> Callable:
    """Let :func:`computed_as` replace ``operation``, by its name."""

    @wraps(operation)
    def computed(*args, **options):
        return _forms.get().get(operation.__name__, operation)(*args, **options)

    return computed


@contextmanager
def computed_as(forms: Mapping[str, Callable]) -> Iterator[None]:
    """Within it the operations named in ``forms`` are computed by the functions given there."""
    token = _forms.set(forms)
    try:
        yield
    finally:
        _forms.reset(token)
