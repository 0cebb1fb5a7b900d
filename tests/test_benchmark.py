"""The benchmark of a training step: what it compares does the same work, and its table adds up."""

import functools

import pytest
import torch

import benchmark
import datasets.sample
from datasets.scene import render_scene
from models import SuperFusion


def test_the_table_adds_up(monkeypatch, capsys):
    monkeypatch.setattr(datasets.sample, "render_scene", functools.cache(lambda seed: render_scene(seed, 96, 128)))
    benchmark.main(["--batch", "1", "--crop", "64", "--repeats", "1", "--device", "cpu"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[0] for row in rows] == ["plain, float32", "ours, float32", "ours, bfloat16"]
    for row in rows:
        parts, total = [float(cell) for cell in row[1:-3]], float(row[-3])
        assert len(parts) == len(benchmark.PARTS) and min(parts[1:3]) > 0
        assert total == pytest.approx(sum(parts), abs=0.05)
    assert rows[0][-1] == "1.0 x"


def test_plain_is_the_published_network():
    torch.manual_seed(0)
    published = SuperFusion(published=True).eval()
    torch.manual_seed(0)
    plain = benchmark.plain().eval()
    ir, vi = torch.rand(1, 3, 40, 48), torch.rand(1, 3, 40, 48)
    both = ("ir2vi", "vi2ir")
    with torch.no_grad():
        expected, flows = published.matcher(ir, vi, both), plain.matcher(ir, vi, both)
        assert all(torch.allclose(flows[way][-1], expected[way][-1], atol=1e-4) for way in both)
        assert torch.allclose(plain.fusion(ir[:, :1], vi[:, :1]), published.fusion(ir[:, :1], vi[:, :1]), atol=1e-5)


def test_refusals():
    with pytest.raises(SystemExit) as ended:
        benchmark.main(["--crop", "8"])
    assert ended.value.code == 2
