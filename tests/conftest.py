"""What several test files use: untrained weights, small scenes, and a guard on a GPU.

Tests marked ``gpu`` need a CUDA device and are skipped without one.
"""

import os
from contextlib import contextmanager

import pytest
import torch

import datasets.toy
from datasets.toy import toy_scene
from models import BiSeNet, SuperFusion
from models.weights import save_checkpoint


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Divide the whole suite, not tests that are named, among processes of one thread: one a core, four at most."""
    whole = config.args_source is not config.ArgsSource.ARGS and not hasattr(config, "workerinput")
    whole = whole and not config.option.usepdb and not config.option.collectonly
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        config.option.numprocesses, config.option.dist = min(4, os.cpu_count() or 1), "loadfile"


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


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory):
    """A BiSeNet whose answer depends on the image, though it is not trained."""
    torch.manual_seed(0)
    model = BiSeNet()
    with torch.no_grad():
        for head in (model.conv_out, model.conv_out16):
            head.conv_out.weight.mul_(300)
    path = tmp_path_factory.mktemp("weights") / "segmenter.safetensors"
    save_checkpoint(path, model)
    return path


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """SuperFusion as it is initialised."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_checkpoint(path, SuperFusion())
    return path


@pytest.fixture
def small_scenes(monkeypatch):
    """The toy scenes at half their size."""
    monkeypatch.setattr(datasets.toy, "toy_scene", lambda seed: toy_scene(seed, 240, 320))
