"""Loops over pixels that numba compiles, run in Python threads.

numba's own threads are not used, since two Python threads must not enter them at once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):
    """Compiled code that is kept for the next run; one that cannot be read or written is as good as none."""

    def load_overload(self, *args):
        with suppress(OSError):
            return super().load_overload(*args)

    def save_overload(self, *args):
        with suppress(OSError):  # a full disk, or a folder that has become another's
            super().save_overload(*args)


def compiled(function: Callable) -> Callable:
    """Compile ``function`` when it is first called; the code is kept beside this file, or where numba can write."""
    compiled: Any = njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):  # there is no such folder
        compiled._cache = _Cache(function)  # njit's own cache=True would let its errors end the run
    return compiled


def run(tasks: list[tuple]) -> None:
    """Call every (function, *arguments) of ``tasks``, in as many threads as PyTorch uses."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for future in [pool.submit(*task) for task in tasks]:
            future.result()
