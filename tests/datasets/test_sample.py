"""The embedded sample: three real pairs, small, licensed, and deformed alike for everyone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datasets.paired import PairedFolders
from datasets.sample import SamplePairs
from models import Pipeline
from models.warping import warp
from utils.metrics.registration import registration_metrics

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "sample"
NAMES = ["daylight", "dusk", "night"]


@pytest.fixture(scope="module")
def pairs():
    return list(SamplePairs())


def test_three_pairs_with_a_flow_and_without_labels(pairs):
    sample = SamplePairs()
    assert sample.names == [pair.name for pair in pairs] == NAMES and len(sample) == 3
    assert sample.has_flow and not sample.has_label
    for pair in pairs:
        assert pair.ir.shape == pair.ir_warp.shape == (1, 480, 640) and pair.vi.shape == (3, 480, 640)
        assert pair.flow.shape == (2, 480, 640) and pair.label is None
        for image in (pair.ir, pair.vi, pair.ir_warp):
            assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1 and image.std() > 0.05


def test_the_infrared_image_is_deformed_by_the_flow(pairs):
    aligned = PairedFolders(FOLDER / "ir", FOLDER / "vi")
    for pair, still in zip(pairs, aligned):
        assert torch.equal(pair.ir, still.ir) and torch.equal(pair.vi, still.vi)
        assert torch.allclose(pair.ir_warp, warp(pair.ir[None], pair.flow[None])[0])
        assert 10 < pair.flow.norm(dim=0).mean() < 35


@pytest.mark.slow
def test_every_process_deforms_alike(pairs, tmp_path):
    torch.manual_seed(1)
    code = "import torch; from datasets.sample import SamplePairs; torch.manual_seed(2); "
    code += f"torch.save([pair.flow for pair in SamplePairs()][::-1], {str(tmp_path / 'flows.pt')!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FOLDER.parents[1])
    for pair, flow, again in zip(pairs, torch.load(tmp_path / "flows.pt")[::-1], SamplePairs()):
        assert torch.equal(pair.flow, flow) and torch.equal(pair.flow, again.flow)
    assert not torch.equal(pairs[0].flow, pairs[1].flow)


def test_the_folder_is_small_and_names_its_source_and_licence():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.jpg")) <= 1_500_000
    licence, about = ((FOLDER / name).read_text() for name in ("LICENSE", "README.md"))
    assert licence.startswith("MIT License") and "Linfeng Tang" in licence
    assert "https://github.com/Linfeng-Tang/M3SVD" in about and all(f"`{name}`" in about for name in NAMES)


@pytest.mark.slow
def test_the_pairs_can_be_registered(pairs):
    for pair in pairs:
        found = Pipeline(None, "structural").register(pair.ir_warp[None], pair.vi[None]).flow_ir2vi
        assert registration_metrics(found, pair.flow[None])["EPE"] < 3
