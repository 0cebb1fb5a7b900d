"""Select a device by name, and warn of its slow precisions."""

import sys

import torch

from utils.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps"; UserError if unavailable."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device_type, _, index = name.partition(":")
    if device_type not in ("cpu", "cuda", "mps") or (index and not (device_type == "cuda" and index.isdigit())):
        raise UserError(f"--device {name}: use auto, cpu, cuda, cuda:0 or mps")
    available = {"cpu": True, "cuda": cuda and int(index or 0) < torch.cuda.device_count(), "mps": mps}
    if not available[device_type]:
        raise UserError(f"--device {name}: there is no such device here; use --device auto or cpu")
    return torch.device(name)


def warn_of_slow_bfloat16(device: torch.device, instead: str) -> None:
    """Print a warning that recommends ``instead`` if ``device`` is a CPU that emulates bfloat16.

    These are CPUs with AVX2 but no AVX-512: a training step took ten times as long as in float32.
    """
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        print(f"warning: this CPU lacks bfloat16 and is up to ten times slower with it; use {instead}", file=sys.stderr)
