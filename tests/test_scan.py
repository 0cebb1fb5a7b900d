"""The four-directional scan against lines worked by hand and a plain loop."""

import pytest
import torch

from models.scan import DIRECTIONS, scan, scan_reference


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


SHAPES = [(2, 3, 7, 5), (1, 2, 1, 6), (1, 2, 6, 1), (1, 1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_linewise_scan_equals_the_reference_with_its_gradients(shape):
    torch.manual_seed(0)
    channels = shape[1]
    inputs = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in (shape, (4, channels), (4, channels))]
    out, expected = scan(*inputs), scan_reference(*inputs)
    assert torch.allclose(out, expected)
    weight = torch.randn_like(out)
    gradients = (torch.autograd.grad((y * weight).sum(), inputs, materialize_grads=True) for y in (out, expected))
    for own, reference in zip(*gradients):
        assert torch.allclose(own, reference)


def test_the_linewise_scan_takes_any_memory_layout():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 6, 8), torch.randn(4, 3), torch.randn(4, 3)
    expected = scan_reference(x, weight, bias)
    for layout in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT, x[:, :, ::1].flip(3).flip(3)):
        assert torch.allclose(scan(layout, weight, bias), expected, rtol=1e-5, atol=1e-6)


def test_the_state_is_float32_whatever_is_stored():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 2, 40, 30).bfloat16(), torch.full((4, 2), 0.9), torch.zeros(4, 2)
    for function in (scan, scan_reference):
        out = function(x, weight, bias)
        assert out.dtype == torch.bfloat16
        exact = scan_reference(x.double(), weight.double(), bias.double())
        # One rounding at the end (bfloat16 keeps 8 bits), not one a step, which would add up.
        assert ((out.double() - exact).abs() <= 2**-8 * exact.abs() + 1e-6).all()
