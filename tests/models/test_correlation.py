"""Local correlation against shifted products, worked by hand and by autograd."""

import pytest
import torch
import torch.nn.functional as F

from models.correlation import local_correlation


def shifted(src, tgt, radius, dilation):
    height, width = tgt.shape[-2:]
    reach = radius * dilation
    src = F.pad(src, (reach,) * 4)
    offsets = range(0, 2 * reach + 1, dilation)
    return torch.stack(
        [(src[:, :, y : y + height, x : x + width] * tgt).sum(dim=1) for y in offsets for x in offsets], dim=1
    )


def test_a_single_bright_pixel_answers_at_its_offset():
    src, tgt = torch.zeros(1, 2, 5, 40), torch.zeros(1, 2, 5, 40)
    src[0, :, 3, 34] = torch.tensor([2.0, 3.0])
    tgt[0, :, 2, 32] = torch.tensor([10.0, 1.0])
    out = local_correlation(src, tgt, radius=2, dilation=1)
    # Offset (+2, +1): row 1 + 2 of five, column 2 + 2.
    assert out.shape == (1, 25, 5, 40) and out.count_nonzero() == 1
    assert out[0, 3 * 5 + 4, 2, 32] == 2 * 10 + 3 * 1


# Widths around the tile of 32 columns, where its windows begin and end.
@pytest.mark.parametrize(
    "shape, radius, dilation", [((2, 3, 5, 7), 1, 1), ((1, 4, 3, 33), 3, 1), ((1, 2, 6, 70), 2, 3)]
)
def test_values_and_gradients_are_those_of_shifted_products(shape, radius, dilation):
    torch.manual_seed(0)
    src, tgt = (torch.randn(shape, dtype=torch.double, requires_grad=True) for _ in range(2))
    out, expected = (f(src, tgt, radius, dilation) for f in (local_correlation, shifted))
    assert torch.allclose(out, expected)
    weight = torch.randn_like(out)
    for own, reference in zip(
        torch.autograd.grad((out * weight).sum(), (src, tgt)),
        torch.autograd.grad((expected * weight).sum(), (src, tgt)),
    ):
        assert torch.allclose(own, reference)


def test_memory_layouts_do_not_matter():
    torch.manual_seed(0)
    src, tgt = torch.randn(2, 4, 6, 9), torch.randn(2, 4, 6, 9)
    expected = local_correlation(src, tgt, 3, 1)
    last = [x.contiguous(memory_format=torch.channels_last) for x in (src, tgt)]
    assert torch.allclose(local_correlation(*last, 3, 1), expected, atol=1e-5)
    assert torch.allclose(local_correlation(src.mT.contiguous().mT, tgt, 3, 1), expected, atol=1e-5)
