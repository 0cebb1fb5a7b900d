"""Freed memory is kept."""

import platform
import subprocess
import sys

import pytest

from utils.memory import keep_freed_memory

# Touching a page for the first time is a fault; a process that reuses its memory has next to none.
_FAULTS = """
import resource, sys, torch
from utils.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(12):  # until the heap has the room
    torch.ones(1 << 24)
before = faults()
for _ in range(5):
    torch.ones(1 << 24)
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_is_reused():
    faults = {}
    for how in ("keep", "release"):
        run = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        faults[how] = int(run.stdout)
    assert faults["keep"] < faults["release"] / 10


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
