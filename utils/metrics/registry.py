"""The entry of a metric: the function that computes it, and which way is better. Tables and curves read it from here.

To add a metric, write its function and one entry in the ``METRICS`` of the module of its kind.
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
    """The entry of a metric of which more is better."""
    return Metric(function, 1)


def lower(function: Callable[..., Any]) -> Metric:
    """The entry of a metric of which less is better."""
    return Metric(function, -1)
