"""Choosing a device by name, and what it is bad at."""

import sys

import torch

from utils.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps"; UserError if it is not there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdigit())):
        raise UserError(f"--device {name}: use auto, cpu, cuda, cuda:0 or mps")
    present = {"cpu": True, "cuda": cuda and int(index or 0) < torch.cuda.device_count(), "mps": mps}
    if not present[kind]:
        raise UserError(f"--device {name}: there is no such device here; use --device auto or cpu")
    return torch.device(name)


def warn_of_slow_bfloat16(device: torch.device, instead: str) -> None:
    """Say on standard error to take ``instead`` if ``device`` is a CPU that has to imitate bfloat16.

    Those with AVX2 and no more: a step of training took ten times as long there as in float32.
    """
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        print(f"warning: this CPU lacks bfloat16 and is up to ten times slower with it; use {instead}", file=sys.stderr)
