"""Custom networks and registrars: each takes one class or function and one line of registration."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import test as test_script
from models import Pipeline, load_model
from models.build import FUSIONS, MATCHERS, build_superfusion
from models.registration import REGISTRARS
from models.registration.registry import Entry
from models.results import Registration
from models.warping import warp
from models.weights import save_checkpoint
from utils.files.images import read_image
from utils.files.infrared import read_infrared

PAIR = [Path(__file__).parents[1] / "data" / "fusion" / f"lake_{modality}.png" for modality in ("ir", "vi")]


class WeightedMean(nn.Module):
    """A fusion network: a learned mean of both luminances, each blurred by a learned kernel."""

    def __init__(self, kernel: int = 3):
        super().__init__()
        self.architecture = dict(kernel=kernel)
        self.mix = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        return self.mix(torch.cat((ir, vi), dim=1))


class Shift(nn.Module):
    """A matcher: one learned displacement for all pixels."""

    def __init__(self, start: float = 0.0):
        super().__init__()
        self.architecture = dict(start=start)
        self.shift = nn.Parameter(torch.full((2,), start))

    def forward(self, ir: Tensor, vi: Tensor, directions=("ir2vi",)) -> dict[str, list[Tensor]]:
        flow = self.shift.view(1, 2, 1, 1).expand(len(vi), -1, *vi.shape[-2:])
        return {direction: [flow if direction == "ir2vi" else -flow] for direction in directions}


@pytest.fixture
def pair():
    return [read_image(path)[None] for path in PAIR]


@pytest.fixture
def registered_networks(monkeypatch):
    monkeypatch.setitem(FUSIONS, "WeightedMean", WeightedMean)
    monkeypatch.setitem(MATCHERS, "Shift", Shift)


def test_a_network_of_ones_own_is_trained_saved_loaded_and_used(registered_networks, pair, tmp_path):
    torch.manual_seed(0)
    ir, vi = pair
    model = build_superfusion(
        matcher={"kind": "Shift", "start": 0.5}, fusion={"kind": "WeightedMean", "kernel": 5}, passes=[1.0]
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        registered = model.register(ir, vi).registered
        losses.append((model.fuse(registered, vi) - torch.maximum(ir, vi)).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
        optimizer.step()
    assert losses[1] < losses[0]

    save_checkpoint(tmp_path / "own.safetensors", model)
    loaded = load_model(tmp_path / "own.safetensors")
    assert isinstance(loaded.fusion, WeightedMean) and loaded.fusion.architecture == {"kernel": 5}
    with torch.no_grad():
        expected = model(ir, vi)
    assert expected.flow_ir2vi.abs().max() > 0.4
    assert torch.equal(loaded(ir, vi).fused, expected.fused)
    through_the_front_door = Pipeline.load(tmp_path / "own.safetensors", registrar="matcher", device="cpu")(*PAIR)
    torch.testing.assert_close(through_the_front_door.fused, expected.fused, rtol=0, atol=0.02)
    loaded.compile_convolutions()  # a network that does not say which of its parts is compiled as a whole


def test_an_unknown_network_is_refused_with_the_known_ones(registered_networks):
    with pytest.raises(ValueError, match="fusion: kind is 'Mean'; use one of FusionNet, WeightedMean"):
        build_superfusion(fusion={"kind": "Mean"})


def two_to_the_right(ir: Tensor, vi: Tensor) -> Registration:
    """A registrar: IR shows everything two pixels too far left."""
    flow = ir.new_tensor([-2.0, 0.0]).view(1, 2, 1, 1).expand(len(ir), -1, *ir.shape[-2:])
    return Registration.by_flow(ir, flow)


def test_a_registrar_of_ones_own_serves_the_pipeline_and_test_py(monkeypatch, pair, tmp_path):
    monkeypatch.setitem(
        REGISTRARS, "shift", Entry(lambda network, **search: two_to_the_right, False, "two pixels to the right")
    )
    ir, vi = pair
    registration = Pipeline(None, "shift").register(ir, vi)
    torch.testing.assert_close(registration.registered[..., 2:], ir[..., :-2], rtol=0, atol=1e-4)

    arguments = ["--registrar", "shift", "--mode", "Reg", "--ir", PAIR[0], "--vi", PAIR[1], "--out", tmp_path]
    test_script.main([str(argument) for argument in arguments])
    written = read_image(tmp_path / "registered" / f"{PAIR[1].stem}.png")
    stretched = read_infrared(PAIR[0]).image[None]
    assert (written[:1] - warp(stretched, registration.flow_ir2vi)[0]).abs().max() <= 0.5 / 255 + 1e-5
