"""The fast path of inference agrees with the plain networks."""

from collections.abc import Callable

import pytest
import torch

from models import SuperFusion
from models.deploy.inference import SMALLEST_TILE, OptimizedSuperFusion, _tiles
from models.layers import ConvBlock
from models.published import published_superfusion
from models.warping import valid_mask, warp


def make_model(make: Callable[[], SuperFusion] = SuperFusion) -> SuperFusion:
    """Random networks with running statistics that are not the identity."""
    torch.manual_seed(0)
    model = make().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return model


def make_pair(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 1, height, width, generator=generator), torch.rand(
        batch, 3, height, width, generator=generator
    )


@pytest.mark.parametrize("make", [SuperFusion, published_superfusion], ids=["ours", "published"])
def test_float32_is_the_plain_path(make):
    model = make_model(make)
    pair = make_pair(45, 58, batch=2)
    with torch.no_grad():
        plain = model.register(*pair)
    fast = OptimizedSuperFusion(model).register(*pair)
    for name in ("registered", "flow_ir2vi"):
        assert torch.allclose(getattr(fast, name), getattr(plain, name), rtol=0, atol=1e-4), name
    assert plain.flow_ir2vi.abs().max() > 1e-3
    with torch.no_grad():
        assert torch.allclose(OptimizedSuperFusion(model).fuse(*pair), model.fuse(*pair), rtol=0, atol=1e-4)


def test_bfloat16_is_near():
    model = make_model()
    pair = make_pair(64, 96)
    with torch.no_grad():
        plain = model.register(*pair).flow_ir2vi, model.fuse(*pair)
    fast = OptimizedSuperFusion(model, "bfloat16")
    flow, fused = fast.register(*pair).flow_ir2vi, fast.fuse(*pair)
    assert flow.dtype == fused.dtype == torch.float32
    assert 0 < (flow - plain[0]).norm(dim=1).mean() < 0.1
    assert -10 * (fused - plain[1]).square().mean().log10() > 45
    assert not torch.equal(fused, plain[1])


def test_the_copy_is_rearranged_and_the_model_left_as_it_was():
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pair = make_pair(32, 40)
    with torch.no_grad():
        expected = model.fuse(*pair)
    fast = OptimizedSuperFusion(model)
    kinds = {type(layer) for block in fast.modules() if isinstance(block, ConvBlock) for layer in block}
    assert not kinds & {torch.nn.BatchNorm2d, torch.nn.InstanceNorm2d} and torch.nn.GroupNorm in kinds
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    fast.register(*pair), fast.fuse(*pair)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        assert torch.equal(model.fuse(*pair), expected)


def test_large_images_are_registered_at_the_reduced_size():
    side = SMALLEST_TILE
    model = make_model()
    ir, vi = make_pair(side // 2, 2 * side)
    fast = OptimizedSuperFusion(model, max_side=side)
    sizes = []
    handle = fast.model.matcher.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    result = fast.register(ir, vi)
    handle.remove()
    assert max(max(size) for size in sizes) == side
    small = [torch.nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True) for x in (ir, vi)]
    flow = OptimizedSuperFusion(model).register(*small).flow_ir2vi
    # Twice the size, twice the displacement.
    assert torch.allclose(
        2 * torch.nn.functional.interpolate(flow, scale_factor=2.0, mode="bilinear"), result.flow_ir2vi
    )
    assert torch.equal(result.registered, warp(ir, result.flow_ir2vi))
    assert torch.equal(result.valid, valid_mask(result.flow_ir2vi))


def test_tiles_fuse_like_the_whole():
    model = make_model()
    ir, vi = make_pair(SMALLEST_TILE // 3, SMALLEST_TILE + 150)
    seen = []
    fast = OptimizedSuperFusion(model, max_side=SMALLEST_TILE)
    handle = fast.model.fusion.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    tiled = fast.fuse(ir, vi)
    handle.remove()
    assert seen == 2 * [(SMALLEST_TILE // 3, 315)]  # 96 px of overlap, shared out
    with torch.no_grad():
        assert torch.allclose(tiled, model.fuse(ir, vi), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [SMALLEST_TILE - 1, SMALLEST_TILE, SMALLEST_TILE + 1, 3 * SMALLEST_TILE + 7])
def test_tiles_cover_everything(length):
    total = torch.zeros(length)
    for place, weight in _tiles(length, SMALLEST_TILE):
        assert place.stop - place.start == len(weight) <= SMALLEST_TILE
        total[place] += weight
    assert total.min() > 0.5


def test_refusals():
    model = make_model()
    with pytest.raises(ValueError, match="precision is 'half'"):
        OptimizedSuperFusion(model, "half")
    with pytest.raises(ValueError, match=f"use at least {SMALLEST_TILE}"):
        OptimizedSuperFusion(model, max_side=64)
    with pytest.raises(ValueError, match="differ in batch or size"):
        OptimizedSuperFusion(model).register(torch.rand(1, 1, 40, 40), torch.rand(1, 3, 40, 48))
