"""Checkpoints: they rebuild their model, are strict, and run no code."""

import os

import pytest
import torch

from models import BiSeNet, SuperFusion, load_model, load_weights
from models.build import architecture
from models.dense_matcher import DenseMatcher
from models.fusion_net import FusionNet
from models.published import published_superfusion
from models.weights import save_checkpoint
from utils.errors import UserError
from utils.files.checkpoint import read_weights, write_weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(1)
    model = SuperFusion(DenseMatcher(cost_dilation=2)).eval()
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_checkpoint(path, model, recipe={"lr": 1e-3}, step=7, metrics={"EPE": 1.5})
    return path, model


def test_a_checkpoint_rebuilds_its_own_model(checkpoint):
    path, model = checkpoint
    rebuilt = load_model(path)
    assert architecture(rebuilt) == architecture(model) and rebuilt.matcher.architecture["cost_dilation"] == 2
    assert not rebuilt.training
    ir, vi = torch.rand(1, 1, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(rebuilt(ir, vi).fused, model(ir, vi).fused)


@pytest.mark.parametrize(
    ("saved", "made"),
    [
        (
            dict(published=False, passes=[0.5], correlation="squared", cost_dilation=2, cost_sigma=2.0, inputs="rgb")
            | dict(field="pixel"),
            lambda: SuperFusion(DenseMatcher("squared", 2, 2.0, "rgb"), FusionNet(surroundings=False), passes=(0.5,)),
        ),
        (
            dict(published=True, passes=[1.0], correlation="squared", cost_dilation=4, cost_sigma=3.0, inputs="rgb")
            | dict(field="published"),
            published_superfusion,
        ),
    ],
    ids=["ours", "published"],
)
def test_checkpoints_of_the_first_format_load(tmp_path, saved, made):
    model = made().eval()
    write_weights(tmp_path / "old.safetensors", model, kind="SuperFusion", architecture=saved)
    assert architecture(load_model(tmp_path / "old.safetensors")) == architecture(model)
    load_weights(made(), tmp_path / "old.safetensors")


def test_checkpoints_of_before_the_surroundings_load(tmp_path):
    model = SuperFusion(fusion=FusionNet(surroundings=False)).eval()
    saved = architecture(model)
    del saved["fusion"]["surroundings"]
    write_weights(tmp_path / "old.safetensors", model, kind="SuperFusion", architecture=saved)
    assert not load_model(tmp_path / "old.safetensors").fusion.surroundings


def test_metadata_round_trip(checkpoint):
    metadata = load_weights(SuperFusion(DenseMatcher(cost_dilation=2)), checkpoint[0])
    assert metadata["recipe"] == {"lr": 1e-3} and metadata["step"] == 7 and metadata["metrics"] == {"EPE": 1.5}


def test_another_architecture_or_kind_is_refused(checkpoint):
    with pytest.raises(UserError, match="'cost_dilation': 2"):
        load_weights(SuperFusion(), checkpoint[0])
    with pytest.raises(UserError, match="not of BiSeNet"):
        load_weights(BiSeNet(), checkpoint[0])


def test_segmenter_files_of_both_origins(tmp_path):
    torch.manual_seed(0)
    net = BiSeNet(num_classes=9)
    torch.save(net.state_dict(), tmp_path / "released.pth")
    save_checkpoint(tmp_path / "ours.safetensors", net)
    for name in ("released.pth", "ours.safetensors"):
        other = BiSeNet(num_classes=9)
        load_weights(other, tmp_path / name)
        assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))
    with pytest.raises(UserError, match=r"conv_out.conv_out.weight is \(9, 128, 1, 1\), not \(5, 128, 1, 1\)"):
        load_weights(BiSeNet(num_classes=5), tmp_path / "released.pth")


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"DM": Malicious(), "FN": {}}, "bad.pth")
    with pytest.raises(UserError, match="bad.pth"):
        load_model("bad.pth")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name, content", [("a.safetensors", b"nonsense"), ("a.pth", b"nonsense"), ("b.pth", b"")])
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_weights(tmp_path / name)


def test_missing_files_and_foreign_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="none.pth: no such"):
        load_model(tmp_path / "none.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(UserError, match="foreign.pth: neither"):
        load_model(tmp_path / "foreign.pth")


@pytest.mark.parametrize(
    "architecture", [[1], 7, {"exec": "x"}, {"matcher": {"name": "os.system"}}, {"passes": [-1.0]}]
)
def test_a_network_that_cannot_be_built_is_a_line(tmp_path, architecture):
    path = tmp_path / "odd.safetensors"
    write_weights(path, SuperFusion(), kind="SuperFusion", architecture=architecture)
    with pytest.raises(UserError, match="odd.safetensors: describes a network that cannot be built"):
        load_model(path)
    write_weights(path, SuperFusion(), kind="SuperFusion")
    with pytest.raises(UserError, match="odd.safetensors: describes a network that cannot be built"):
        load_model(path)
