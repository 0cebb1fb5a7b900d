"""Tests marked ``gpu`` need a CUDA device and are skipped without one."""

from contextlib import contextmanager

import pytest
import torch


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            marker = item.get_closest_marker("gpu")
            if marker and not marker.kwargs.get("or_cpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def no_waiting():
    """A context in which an operation that waits for the GPU is an error."""

    @contextmanager
    def context():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return context()
