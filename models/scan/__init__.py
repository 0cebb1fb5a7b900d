"""The four-directional scan of GSAM: one contract, several backends, and the selection of the fastest."""

import functools
import importlib
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from models.forms import has_forms
from models.scan.reference import DIRECTIONS, scan_reference

__all__ = ["BACKENDS", "DIRECTIONS", "backends_for", "load_backend", "scan", "scan_reference"]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)

# Name: module, function, package required beside torch, device (None: all), dtypes (None: all); the fastest first.
BACKENDS = {
    "triton": ("models.scan.triton_backend", "scan", "triton", "cuda", _FLOATS),
    "numba": ("models.scan.numba_backend", "scan", "numba", "cpu", (torch.float32, torch.bfloat16)),
    "torch": ("models.scan.linewise", "scan", None, None, None),
    "reference": ("models.scan.reference", "scan_reference", None, None, None),
}


@has_forms
def scan(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scan as :func:`models.scan.reference.scan_reference`, by the fastest backend for ``x``'s device and dtype.

    Differentiable once.
    """
    return load_backend(backends_for(x.device.type, x.dtype)[0])(x, weight, bias)


@functools.cache
def backends_for(device: str, dtype: torch.dtype) -> list[str]:
    """List the usable ``BACKENDS`` for a device type ("cpu", "cuda", ...) and a dtype, the fastest first."""
    return [
        name
        for name, (_, _, package, required, dtypes) in BACKENDS.items()
        if required in (None, device) and (dtypes is None or dtype in dtypes) and (package is None or _usable(package))
    ]


@functools.cache
def load_backend(name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Import and return the scan function of ``BACKENDS[name]``."""
    module, function, *_ = BACKENDS[name]
    return getattr(importlib.import_module(module), function)


@functools.cache
def _usable(package: str) -> bool:
    if find_spec(package) is None:
        return False
    try:
        importlib.import_module(package)
    except ImportError as error:  # such as a numba that does not support the installed numpy
        warnings.warn(f"{package} is installed but cannot be used, the scan will be slower: {error}", stacklevel=2)
        return False
    return True
