"""The entry of a metric: its function, and whether higher or lower is better, as tables and curves show it.

To add a metric, write its function and an entry in ``METRICS`` of ``fusion``, ``registration`` or ``alignment``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A metric, called like its ``function``; ``direction`` is 1 if higher is better, -1 if lower is."""

    function: Callable[..., Any]
    direction: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def higher(function: Callable[..., Any]) -> Metric:
    """Make the entry of a metric where higher is better."""
    return Metric(function, 1)


def lower(function: Callable[..., Any]) -> Metric:
    """Make the entry of a metric where lower is better."""
    return Metric(function, -1)
