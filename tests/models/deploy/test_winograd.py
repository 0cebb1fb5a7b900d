"""The Winograd form of a convolution computes what the convolution does."""

import pytest
import torch

pytest.importorskip("numba")
from models.deploy.inference import OptimizedSuperFusion, fastest
from models.deploy.winograd import WinogradConv2d
from models.superfusion import SuperFusion


@pytest.mark.parametrize(
    "size", [(8, 12), (13, 22), (3, 2), (1, 150), (40, 129)], ids=lambda size: f"{size[0]}x{size[1]}"
)
@pytest.mark.parametrize("channels", [(70, 5, True), (256, 130, False)], ids=["few", "many"])
def test_it_is_the_convolution(size, channels):
    """Sizes that are whole tiles or not, smaller than a tile, and more than one block of tiles wide."""
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(*channels[:2], 3, padding=1, bias=channels[2])
    x = torch.randn(2, channels[0], *size)
    with torch.no_grad():
        exact = convolution.double()(x.double()).float()
        found = WinogradConv2d(convolution.float())(x)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(found, exact, rtol=0, atol=3e-5 * float(exact.abs().max()))
        # The result depends on neither the memory format nor what else is in the batch.
        last = x[1:].to(memory_format=torch.channels_last)
        assert torch.equal(WinogradConv2d(convolution)(last), found[1:])


def test_it_is_taken_where_it_suits():
    for options in (dict(stride=2), dict(dilation=2, padding=2), dict(padding=0), dict(groups=2)):
        other = torch.nn.Conv2d(128, 32, 3, **dict(padding=1) | options)
        assert fastest(other) is other
    for few in (torch.nn.Conv2d(16, 256, 3, padding=1), torch.nn.Conv2d(128, 32, 1)):
        assert fastest(few) is few
    assert isinstance(fastest(torch.nn.Conv2d(128, 32, 3, padding=1)), WinogradConv2d)


def test_only_float32_that_is_not_compiled_takes_it():
    def taken(**options):
        return sum(isinstance(m, WinogradConv2d) for m in OptimizedSuperFusion(SuperFusion(), **options).modules())

    assert taken() == 4 and taken(precision="bfloat16") == 0 and taken(compile=True) == 0
