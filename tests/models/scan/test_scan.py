"""The four-directional scan against lines worked by hand and a plain loop."""

import importlib.util

import pytest
import torch

import models.scan
from models.scan import DIRECTIONS, backends_for, load_backend, scan, scan_reference


def loop_scan(line, weight, bias):
    out = [max(line[0], 0.0)]
    for x in line[1:]:
        out.append(max(weight * out[-1] + bias + x, 0.0))
    return out


def test_a_line_worked_by_hand():
    # down, weight 0.5, bias 0.25: relu(-1) = 0, relu(0 + .25 + 1) = 1.25, relu(.625 + .25 - 2) = 0, then .25 + 3
    x = torch.tensor([-1.0, 1.0, -2.0, 3.0]).view(1, 1, 4, 1)
    out = scan_reference(x, torch.full((4, 1), 0.5), torch.full((4, 1), 0.25))
    assert torch.allclose(out[0, DIRECTIONS.index("down"), 0, :, 0], torch.tensor([0.0, 1.25, 0.0, 3.25]))
    # up, from the bottom: relu(3) = 3, relu(1.5 + .25 - 2) = 0, .25 + 1, relu(.625 + .25 - 1) = 0
    assert torch.allclose(out[0, DIRECTIONS.index("up"), 0, :, 0], torch.tensor([0.0, 1.25, 0.0, 3.0]))
    # Rows of a single pixel: no step is taken, so no bias either.
    for direction in ("left", "right"):
        assert torch.equal(out[0, DIRECTIONS.index(direction)], x[0].relu())


def test_every_direction_and_channel_has_its_own_weight():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 4, 5), torch.randn(4, 3), torch.randn(4, 3)
    out = scan_reference(x, weight, bias)
    assert out.shape == (2, 4, 3, 4, 5)
    for b in range(2):
        for c in range(3):
            image = x[b, c]
            for d, direction in enumerate(DIRECTIONS):
                lines = image.T if direction in ("up", "down") else image
                backwards = direction in ("up", "left")
                lines = lines.flip(1) if backwards else lines
                expected = torch.tensor(
                    [loop_scan(line.tolist(), weight[d, c].item(), bias[d, c].item()) for line in lines]
                )
                expected = expected.flip(1) if backwards else expected
                expected = expected.T if direction in ("up", "down") else expected
                assert torch.allclose(out[b, d, c], expected, atol=1e-5), direction


def test_gradients():
    torch.manual_seed(0)
    shapes = ((1, 2, 3, 4), (4, 2), (4, 2))
    inputs = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(scan_reference, inputs)


SHAPES = [(2, 3, 7, 5), (1, 2, 1, 6), (1, 2, 6, 1), (1, 1, 1, 1), (1, 32, 9, 13), (1, 300, 40, 3)]
FAST = [name for name in backends_for("cpu", torch.float32) if name != "reference"]


def test_the_fastest_backend_is_used():
    assert backends_for("cpu", torch.float64) == ["torch", "reference"]
    assert backends_for("mps", torch.float32) == ["torch", "reference"]
    assert FAST[0] == ("numba" if importlib.util.find_spec("numba") else "torch")
    x = torch.randn(1, 2, 5, 4)
    arguments = (x, torch.randn(4, 2), torch.randn(4, 2))
    assert torch.equal(scan(*arguments), load_backend(FAST[0])(*arguments))


def test_a_package_that_cannot_be_imported_is_said_and_left_out(monkeypatch):
    def broken(name):
        raise ImportError("needs an older numpy")

    monkeypatch.setattr(models.scan, "find_spec", lambda package: "found")
    monkeypatch.setattr(models.scan.importlib, "import_module", broken)
    with pytest.warns(UserWarning, match="numba is installed but cannot be used.*needs an older numpy"):
        assert not models.scan._usable.__wrapped__("numba")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAST)
def test_equals_the_reference_with_its_gradients(name, shape):
    torch.manual_seed(0)
    channels = shape[1]
    inputs = [torch.randn(s, requires_grad=True) for s in (shape, (4, channels), (4, channels))]
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    inputs[1].data *= 0.5
    doubles[1].data *= 0.5
    out, expected = load_backend(name)(*inputs), scan_reference(*doubles)
    assert (inputs[1] < 0).any() or channels == 1
    assert torch.allclose(out.double(), expected, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad(out, inputs, weight)
    for own, reference in zip(
        gradients, torch.autograd.grad(expected, doubles, weight.double(), materialize_grads=True)
    ):
        assert torch.allclose(own.double(), reference, rtol=1e-4, atol=1e-4 * reference.abs().max().item())


@pytest.mark.parametrize("name", FAST)
def test_takes_any_memory_layout_and_number_of_threads(name):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 6, 8), torch.randn(4, 3), torch.randn(4, 3)
    expected = scan_reference(x, weight, bias)
    threads = torch.get_num_threads()
    for layout in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT, x.repeat(1, 2, 1, 1)[:, :3]):
        for count in (1, 3):
            torch.set_num_threads(count)
            found = load_backend(name)(layout, weight.T.contiguous().T, bias)
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [*FAST, "reference"])
def test_the_state_is_float32_whatever_is_stored(name):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 2, 40, 30).bfloat16(), torch.full((4, 2), 0.9), torch.zeros(4, 2)
    out = load_backend(name)(x, weight, bias)
    assert out.dtype == torch.bfloat16
    exact = scan_reference(x.double(), weight.double(), bias.double())
    # One rounding at the end (bfloat16 keeps 8 bits), not one a step, which would add up.
    assert ((out.double() - exact).abs() <= 2**-8 * exact.abs() + 1e-6).all()


@pytest.mark.parametrize("name", FAST)
def test_bfloat16_gradients(name):
    torch.manual_seed(0)
    x = torch.randn(1, 4, 12, 9).bfloat16().requires_grad_()
    exact = x.detach().double().requires_grad_()
    weight, bias = torch.full((4, 4), 0.5, requires_grad=True), torch.zeros(4, 4, requires_grad=True)
    out = load_backend(name)(x, weight, bias)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(scan_reference(exact, weight.double(), bias.double()), exact, grad.double())[0]
    found = torch.autograd.grad(out, x, grad)[0]
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.double(), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("name", [*FAST, "reference"])
def test_what_is_not_a_number_stays_so(name):
    x = torch.tensor([1.0, torch.nan, 1.0]).view(1, 1, 1, 3)
    out = load_backend(name)(x, torch.full((4, 1), 0.5), torch.zeros(4, 1))
    assert out[0, DIRECTIONS.index("right"), 0, 0].isnan().tolist() == [False, True, True]
