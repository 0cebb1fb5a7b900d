"""Code compiled by numba: kept for the next run where that is possible, and no matter where it is not."""

import errno

import pytest

numba = pytest.importorskip("numba")
compiled = pytest.importorskip("models.compiled").compiled
caching = numba.core.caching


def plus_one(x):
    return x + 1


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the cache."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_compiled_code_is_kept(folder, monkeypatch):
    assert compiled(plus_one)(1) == 2
    assert list(folder.rglob("*.nbi")) and list(folder.rglob("*.nbc"))
    with monkeypatch.context() as patch:
        patch.setattr(numba.core.compiler.CompilerBase, "compile_extra", full)
        assert compiled(plus_one)(1) == 2  # without compiling
        for path in folder.rglob("*.nb?"):
            path.unlink()
        with pytest.raises(OSError, match="No space left"):
            compiled(plus_one)(1)


@pytest.mark.parametrize("method", ["save", "load"])
def test_a_cache_that_cannot_be_used_is_no_matter(folder, monkeypatch, method):
    monkeypatch.setattr(caching.IndexDataCacheFile, method, full)
    assert compiled(plus_one)(1) == 2


def test_without_a_folder_for_a_cache_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert compiled(plus_one)(1) == 2
