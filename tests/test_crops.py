"""Training crops: their true flows are true, and the black band shows only where it is allowed to."""

import pytest
import torch

from datasets.crops import CropSampler
from datasets.scene import render_scene
from models.warping import pixel_grid, warp
from utils.config import Data
from utils.images import write_image


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two pairs whose IR and VI are one smooth image, so that a true flow must bring them together."""
    folder = tmp_path_factory.mktemp("data")
    x, y = pixel_grid(120, 160, like=torch.zeros(1)).unbind(1)
    for name, period in (("a", 11), ("b", 17)):
        image = 0.5 + 0.2 * torch.sin(x / period) + 0.2 * torch.cos(y / 9 + x / 40)
        write_image(folder / "SET" / "train" / "ir" / f"{name}.png", image)
        write_image(folder / "SET" / "train" / "vi" / f"{name}.png", image.expand(3, -1, -1))
    return folder


@pytest.fixture
def plain(monkeypatch):
    """Without photometric augmentation, whose noise could turn dark pixels black."""
    monkeypatch.setattr("datasets.crops.photometric", lambda modality, image, generator: image)


def sampler(root, seed=0, **options):
    options = dict(sets={"SET/train": 1.0}, crop=48, rotation=6.0, translation=0.04, elastic=0.5) | options
    return CropSampler(Data(root=str(root), **options), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_true_flows_bring_the_pair_together(root, scale, plain):
    batch = sampler(root, scale=scale, crop=40).batch(6)
    gray = batch["vi"].mean(1, keepdim=True)
    for moving, fixed, direction in ((batch["ir"], gray, "ir2vi"), (gray, batch["ir"], "vi2ir")):
        valid = batch[f"valid_{direction}"]
        error = (warp(moving, batch[f"flow_{direction}"]) - fixed).abs() * valid
        before = (moving - fixed).abs() * valid
        assert valid.mean() > 0.4
        assert error.mean() < 0.004 < 0.25 * before.mean()


def test_half_of_the_pairs_move_ir_the_other_half_vi(root, plain):
    batch = sampler(root, band=1.0, translation=0.3).batch(4)
    has_band = [(batch[m] == 0).all(dim=1).float().mean((1, 2)) > 0.01 for m in ("ir", "vi")]
    assert not has_band[0][2:].any() and not has_band[1][:2].any()
    assert has_band[0][:2].any() or has_band[1][2:].any()


def test_no_band_where_none_is_allowed(root, plain):
    free = sampler(root, band=0.0, zoom=(0.6, 0.8)).batch(16)
    assert all((free[m] == 0).all(dim=1).float().mean((1, 2)).max() < 0.005 for m in ("ir", "vi"))


def test_batches_come_from_the_generator(root):
    a, b, c = sampler(root, 1).batch(2), sampler(root, 1).batch(2), sampler(root, 2).batch(2)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["ir"], c["ir"])


def test_quarter_turns_and_whole_scenes(tmp_path):
    scene = render_scene(0, 64, 96)
    write_image(tmp_path / "S" / "train" / "ir" / "x.png", scene["ir"])
    write_image(tmp_path / "S" / "train" / "vi" / "x.png", scene["vi"])
    batch = sampler(tmp_path, sets={"S/train": 1.0}, crop=48, quarter_turns=True).batch(3)
    assert batch["ir"].shape == (3, 1, 48, 48) and batch["vi"].shape == (3, 3, 48, 48)
    assert all(value.isfinite().all() for value in batch.values())
