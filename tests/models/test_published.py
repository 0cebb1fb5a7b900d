"""The released weights: the key map on a synthetic file, and our networks against the published outputs."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from models import BiSeNet, SuperFusion, load_weights
from models.published import _FUSION, _MATCHER, published_superfusion
from models.scan import DIRECTIONS
from models.warping import flow_to_published
from utils.errors import UserError

DATA = Path(__file__).resolve().parents[1] / "data" / "published"
# Outputs at further sizes, where they lie beside the project.
MORE = Path(__file__).resolve().parents[3] / "shared" / "published"
REFERENCES = {path.stem.split("_")[-1]: path for folder in (MORE, DATA) for path in sorted(folder.glob("*.npz"))}
LOGITS_STEP = 4  # of the logits every fourth row and column is kept: the network interpolates them from an eighth


def released(model):
    """The content of a released file with the weights of ``model``, built by the key map backwards."""
    tensors = model.state_dict()
    content = {"DM": {}, "FN": {}, "ep": 3}
    for network, table, ours in (("DM", _MATCHER, "matcher"), ("FN", _FUSION, "fusion")):
        for block, name in table.items():
            layers = {k: v for k, v in tensors.items() if k.startswith(f"{ours}.{name}.")}
            assert layers, name
            for key, tensor in layers.items():
                content[network][f"{block}.model.{key.removeprefix(f'{ours}.{name}.')}"] = tensor
    for scan in (1, 2):
        for part in ("weight", "bias"):
            for direction, line in zip(DIRECTIONS, tensors[f"fusion.gsam.scan{scan}.{part}"], strict=True):
                shape = (32, 1, 1, 1) if part == "weight" else (32,)
                content["FN"][f"SAM.irnn{scan}.{direction}_weight.{part}"] = line.reshape(shape)
    return content


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(3)
    model = published_superfusion().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model


def test_a_released_file_gives_the_same_network(source, tmp_path):
    torch.save(released(source), tmp_path / "MSRS.pth")
    model = published_superfusion().eval()
    load_weights(model, tmp_path / "MSRS.pth")
    ir, vi = torch.rand(1, 3, 32, 40), torch.rand(1, 3, 32, 40)
    with torch.no_grad():
        expected, result = source(ir, vi), model(ir, vi)
    for name in ("registered", "flow_ir2vi", "valid", "fused"):
        assert torch.equal(getattr(result, name), getattr(expected, name)), name


def test_a_released_file_does_not_load_into_our_default(source, tmp_path):
    torch.save(released(source), tmp_path / "MSRS.pth")
    with pytest.raises(UserError, match="made for .*PublishedMatcher.*load_model"):
        load_weights(SuperFusion(), tmp_path / "MSRS.pth")


def test_missing_and_foreign_keys_of_a_released_file_are_listed(source, tmp_path):
    content = released(source)
    del content["DM"]["matcher1.layers.3.model.0.weight"]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="missing matcher.fine.estimate.3.0.weight"):
        load_weights(published_superfusion(), tmp_path / "a.pth")

    content = released(source)
    content["FN"]["decoder.9.model.0.weight"] = torch.zeros(1)
    del content["FN"]["SAM.irnn2.up_weight.bias"]
    torch.save(content, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"decoder.9.*SAM.irnn2.up_weight.bias"):
        load_weights(published_superfusion(), tmp_path / "b.pth")


def recipe(network, keys):
    """The weights that the reference outputs were made with; every number follows from the key's name."""
    tensors = {}
    for key, shape in keys.items():
        n = np.random.default_rng(zlib.crc32(f"A.{network}.{key}".encode())).standard_normal(shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else None
        if key.endswith("num_batches_tracked"):
            value = np.zeros(shape)
        elif key.endswith("running_var"):
            value = 1 + 0.1 * np.abs(n)
        elif fan_in is not None:
            value = n * np.sqrt(2 / fan_in) if fan_in > 1 else 0.2 + 0.1 * n
        elif key.endswith(("running_mean", ".bias")):
            value = 0.05 * n
        else:
            value = 1 + 0.05 * n
        dtype = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        tensors[key] = torch.as_tensor(np.asarray(value)).to(dtype)
    return tensors


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    keys = json.loads((DATA / "keys.json").read_text())
    folder = tmp_path_factory.mktemp("released")
    torch.save({network: recipe(network, keys[network]) for network in ("DM", "FN")}, folder / "MSRS.pth")
    torch.save(recipe("SEG", keys["SEG"]), folder / "segmenter.pth")
    model, segmenter = published_superfusion().eval(), BiSeNet(num_classes=9).eval()
    load_weights(model, folder / "MSRS.pth")
    load_weights(segmenter, folder / "segmenter.pth")
    return model, segmenter


@pytest.mark.parametrize("size", REFERENCES)
def test_outputs_of_the_published_networks(networks, size):
    model, segmenter = networks
    reference = {name: torch.from_numpy(array) for name, array in np.load(REFERENCES[size]).items()}
    ir, vi = reference.pop("ir").expand(-1, 3, -1, -1), reference.pop("vi")
    with torch.no_grad():
        flows = model.matcher(ir, vi, directions=("ir2vi", "vi2ir"))
        registered = model.register(ir, vi).registered
        logits, auxiliary = segmenter(vi)
        ours = {
            "flow_ir2vis": flow_to_published(flows["ir2vi"][-1]),
            "flow_vis2ir": flow_to_published(flows["vi2ir"][-1]),
            # The reference feeds the networks' raw channels here, without the conversion to luminance.
            "fusion_y": model.fusion(ir[:, :1], vi[:, :1]),
            "registered": registered,
            "fused_rgb": model.fuse(ir, vi),
            "registered_fused_rgb": model.fuse(registered, vi),
            "seg": logits,
            "seg_aux": auxiliary,
        }
    assert ours.keys() == reference.keys()
    for name, expected in reference.items():
        if name.startswith("seg") and expected.shape != ours[name].shape:
            ours[name] = ours[name][..., ::LOGITS_STEP, ::LOGITS_STEP]
        assert ours[name].shape[-2:] == expected.shape[-2:]
        assert (ours[name] - expected).abs().max() < 1e-4, name
