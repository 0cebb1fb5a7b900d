"""Convolution blocks and the separable Gaussian filter."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.layers import ConvBlock, InstanceNorm2d, blur, gaussian_kernel


def test_gaussian_kernel_is_normalised_and_has_its_deviation():
    kernel = gaussian_kernel(25, 3.0)
    x = torch.arange(25.0) - 12
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert (kernel * x**2).sum().sqrt() == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("border", ["zero", "replicate"])
def test_blur_is_the_two_dimensional_filter(border):
    x, kernel = torch.rand(2, 3, 9, 11), gaussian_kernel(5, 1.0)
    mode = {"zero": "constant", "replicate": "replicate"}[border]
    square = torch.outer(kernel, kernel).expand(3, 1, 5, 5)
    expected = F.conv2d(F.pad(x, (2, 2, 2, 2), mode=mode), square, groups=3)
    assert torch.allclose(blur(x, kernel, border), expected, atol=1e-6)
    assert torch.allclose(blur(x.requires_grad_(), kernel, border), expected, atol=1e-6)


def test_blur_stays_in_float32_under_autocast():
    x, kernel = torch.rand(1, 1, 8, 8), gaussian_kernel(5, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(blur(x, kernel, "zero"), blur(x.clone(), kernel, "zero"))
        assert blur(x, kernel, "zero").dtype == torch.float32


def test_conv_block_keeps_size_and_says_what_it_holds():
    block = ConvBlock(2, 4, dilation=3, norm="instance", slope=0.1)
    assert block(torch.rand(1, 2, 9, 10)).shape == (1, 4, 9, 10)
    assert [type(layer).__name__ for layer in block] == ["Conv2d", "InstanceNorm2d", "LeakyReLU"]
    assert block[0].bias is None
    assert ConvBlock(2, 4, stride=2, bias=True)(torch.rand(1, 2, 9, 10)).shape == (1, 4, 5, 5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_instance_normalisation_keeps_the_memory_format(memory_format):
    x = torch.rand(2, 4, 5, 6).contiguous(memory_format=memory_format).requires_grad_()
    y = InstanceNorm2d(4)(x)
    assert torch.equal(y, nn.InstanceNorm2d(4)(x)) and y.is_contiguous(memory_format=memory_format)
    weights = torch.rand(2, 4, 5, 6)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    (expected,) = torch.autograd.grad((nn.InstanceNorm2d(4)(x) * weights).sum(), x)
    assert torch.allclose(gradient, expected, atol=1e-6)
