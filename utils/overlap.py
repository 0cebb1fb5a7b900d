"""Reading, computing and writing at the same time, by threads: the slow parts of all three release Python's lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Iterate over ``items``, which a thread makes up to ``depth`` ahead; an error is raised in its place."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, iterator, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()


class Behind:
    """Make calls in ``workers`` threads, with one in order, while at most ``depth`` are not done.

    A context manager that ends when all are done; if it is left by an error, calls that wait are dropped.
    """

    def __init__(self, workers: int = 1, depth: int = 2):
        self._threads, self._places = ThreadPoolExecutor(workers), BoundedSemaphore(depth)

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind, *_) -> None:
        self._threads.shutdown(cancel_futures=kind is not None)

    def __call__(self, function: Callable[..., T], *arguments: object) -> "Future[T]":
        """Have ``function(*arguments)`` called, once there is a place; the result or error is the future's."""
        self._places.acquire()
        future = self._threads.submit(function, *arguments)
        future.add_done_callback(lambda _: self._places.release())
        return future
