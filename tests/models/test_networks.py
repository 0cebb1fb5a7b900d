"""The networks: published parameter counts, shapes, the meaning of their parts, gradients."""

import pytest
import torch

from models import BiSeNet, SuperFusion
from models.blending import content, fade
from models.correlation import cost_volume
from models.dense_matcher import DenseMatcher
from models.fusion_net import FusionNet, surroundings
from models.gsam import GSAM
from models.published import published_superfusion
from models.structural_inputs import structural_channels
from models.warping import compose, valid_mask, warp


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SuperFusion().eval()


@pytest.mark.parametrize("make", [SuperFusion, published_superfusion])
def test_published_parameter_counts(make):
    model = make()
    assert count(model.matcher) == 1_823_688
    assert count(model.fusion) == 138_741 + 72 * model.fusion.surroundings  # ours: one channel more into a convolution
    assert count(BiSeNet(num_classes=9)) == 12_894_080


@pytest.mark.parametrize("make", [SuperFusion, published_superfusion])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40)])
def test_any_size_and_channel_count(size, make):
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for batch, c_ir, c_vi in ((1, 1, 3), (2, 3, 1)):
            result = model(torch.rand(batch, c_ir, *size), torch.rand(batch, c_vi, *size))
            assert result.registered.shape == (batch, c_ir, *size)
            assert result.flow_ir2vi.shape == (batch, 2, *size)
            assert result.valid.shape == (batch, 1, *size)
            assert result.fused.shape == (batch, 3, *size)
            assert 0 <= result.fused.min() and result.fused.max() <= 1


def test_forward_registers_fuses_and_blends(model):
    ir, vi = torch.rand(1, 1, 40, 48), torch.rand(1, 3, 40, 48)
    with torch.no_grad():
        result, registered = model(ir, vi), model.register(ir, vi)
        assert torch.equal(result.flow_ir2vi, registered.flow_ir2vi)
        assert torch.allclose(result.registered, warp(ir, result.flow_ir2vi))
        assert torch.equal(result.valid, valid_mask(result.flow_ir2vi))
        fused = model.fuse(result.registered, vi)
        assert torch.equal(result.fused, fade(fused, vi, content(ir, registered)))


def test_later_passes_refine_what_earlier_ones_found():
    torch.manual_seed(0)
    once, twice = (SuperFusion(passes=[0.5] * n, local=None).eval() for n in (1, 2))
    with torch.no_grad():
        once.matcher.refine.estimate[-1][0].weight.mul_(200)  # far enough to matter
    twice.load_state_dict(once.state_dict())
    ir, vi = torch.rand(1, 1, 64, 80), torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        first = once.register(ir, vi)
        second = once.register(first.registered, vi).flow_ir2vi
        flow = twice.register(ir, vi).flow_ir2vi
    assert first.flow_ir2vi.abs().mean() > 0.5
    assert torch.allclose(flow, compose(first.flow_ir2vi, second), atol=1e-4)


def test_a_batch_gives_what_its_pairs_give_alone(model):
    ir, vi = torch.rand(2, 1, 40, 48), torch.rand(2, 3, 40, 48)
    with torch.no_grad():
        together = model(ir, vi)
        alone = model(ir[1:], vi[1:])
    for name in ("registered", "flow_ir2vi", "valid", "fused"):
        assert torch.allclose(getattr(together, name)[1:], getattr(alone, name), atol=1e-4), name


def test_a_gray_image_is_an_rgb_image_of_equal_channels(model):
    ir, vi = torch.rand(1, 1, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        gray, rgb = model(ir, vi), model(ir.expand(-1, 3, -1, -1), vi)
    assert torch.allclose(gray.flow_ir2vi, rgb.flow_ir2vi, atol=1e-4)
    assert torch.allclose(gray.fused, rgb.fused, atol=1e-4)


@pytest.mark.parametrize(
    "ir, vi, message",
    [
        ((1, 1, 31, 40), (1, 3, 31, 40), "at least 32"),
        ((1, 1, 40, 40), (1, 3, 40, 48), "differ"),
        ((1, 4, 40, 40), (1, 3, 40, 40), "1 or 3"),
    ],
)
def test_unfit_inputs_are_refused(model, ir, vi, message):
    with pytest.raises(ValueError, match=message):
        model(torch.rand(ir), torch.rand(vi))


def test_unknown_matching_options_are_refused():
    with pytest.raises(ValueError, match="correlation"):
        DenseMatcher(correlation="cosin")


@pytest.mark.parametrize("correlation, best", [("squared", torch.argmin), ("cosine", torch.argmax)])
def test_cost_volume_finds_a_known_shift(correlation, best):
    torch.manual_seed(0)
    tgt = torch.randn(1, 16, 24, 24)
    src = tgt.roll((2, -4), dims=(2, 3))  # src(p + (dx=-4, dy=2)) = tgt(p)
    cost = cost_volume(src, tgt, correlation, dilation=2, sigma=0.1)
    assert cost.shape == (1, 49, 24, 24)
    index = best(cost[0, :, 12, 12]).item()
    assert (2 * (index % 7 - 3), 2 * (index // 7 - 3)) == (-4, 2)


def test_cosine_cost_lies_between_minus_one_and_one_and_ignores_contrast():
    src, tgt = torch.randn(1, 8, 10, 10), torch.randn(1, 8, 10, 10)
    cost = cost_volume(src, tgt, "cosine", 1, 1.0)
    assert cost.abs().max() <= 1 + 1e-5
    assert torch.allclose(cost, cost_volume(3 * src, 0.2 * tgt, "cosine", 1, 1.0), atol=1e-5)


def test_structural_channels_ignore_gain_and_offset():
    image = 0.3 + 0.4 * torch.rand(1, 1, 48, 48)
    a, b = structural_channels(image), structural_channels(0.5 * image + 0.2)
    assert a.shape == (1, 3, 48, 48)
    # The contrast floor keeps the invariance from being exact.
    assert torch.allclose(a, b, atol=0.25) and (a - b).abs().mean() < 0.1 * a.abs().mean()
    flat = structural_channels(torch.full((1, 3, 48, 48), 0.7))
    assert flat[:, :2].abs().max() < 1e-3


def test_gsam_attention_is_a_sigmoid_and_follows_the_direction_weights():
    torch.manual_seed(0)
    features = torch.randn(1, 64, 12, 14)
    gsam = GSAM(32)
    attention = gsam(features)
    assert attention.shape == (1, 32, 12, 14) and 0 < attention.min() and attention.max() < 1
    with torch.no_grad():
        gsam.direction_weights[-1][0].bias += torch.tensor([5.0, -5.0, 5.0, -5.0])
    assert not torch.allclose(gsam(features), attention, atol=1e-4)

    published = GSAM(32, published=True)
    published.load_state_dict(gsam.state_dict())
    before = published(features)
    assert before.min() < 0
    with torch.no_grad():
        published.direction_weights[-1][0].bias += 3.0
    assert torch.equal(published(features), before)


def test_fusion_output_range_and_gradients_reach_every_parameter():
    torch.manual_seed(0)
    net = FusionNet()
    out = net(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16))
    assert 0 <= out.min() and out.max() <= 1
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_surroundings_of_a_pixel():
    """A Gaussian of sigma 32 over what IR shows; the black of no content does not count."""
    x = torch.arange(256) - 128
    assert surroundings(torch.full((1, 1, 64, 80), 0.4)) == pytest.approx(0.4, abs=1e-6)
    ir = torch.full((1, 1, 256, 256), 0.4)
    ir[..., 100:] = 0
    assert surroundings(ir)[..., :100] == pytest.approx(0.4, abs=1e-6)
    step = (x > 0).float().mul(0.5).add(0.2).expand(1, 1, 256, 256)
    found = surroundings(step)[0, 0, 128, 32:224]
    expected = 0.2 + 0.5 * torch.special.ndtr((x[32:224] - 0.5) / 32)
    assert found == pytest.approx(expected, abs=0.01)  # its tails are cut at 72 pixels


def test_fusion_sees_what_is_far_away():
    torch.manual_seed(0)
    ir, vi = 0.2 + 0.5 * torch.rand(2, 1, 1, 128, 192)
    other = ir.clone()
    other[..., 120:] = 0.9  # 40 pixels away, more than convolutions and scans of 0.2 reach
    here = (..., slice(None), slice(0, 80))
    for seen in (True, False):
        net = FusionNet(surroundings=seen).eval()
        with torch.no_grad():
            change = (net(ir, vi) - net(other, vi))[here].abs().max()
        assert (change > 1e-7) == seen


def test_matcher_gradients_reach_every_parameter():
    torch.manual_seed(0)
    matcher = SuperFusion().matcher
    flows = matcher(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), directions=("ir2vi", "vi2ir"))
    assert {k: [tuple(f.shape[-2:]) for f in v] for k, v in flows.items()} == {
        direction: [(8, 8), (16, 16), (64, 64)] for direction in ("ir2vi", "vi2ir")
    }
    sum(f.square().sum() for scales in flows.values() for f in scales).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in matcher.parameters())


def test_bisenet_shapes_and_repeatability():
    torch.manual_seed(0)
    net = BiSeNet(num_classes=5).eval()
    image = torch.rand(2, 3, 65, 50)
    with torch.no_grad():
        logits, auxiliary = net(image)
        assert logits.shape == auxiliary.shape == (2, 5, 65, 50)
        assert torch.allclose(net(image[:1])[0], logits[:1], atol=1e-4)


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(model):
    ir, vi = torch.rand(1, 1, 64, 80), torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        expected, result = model(ir, vi), model.cuda()(ir.cuda(), vi.cuda())
    model.cpu()
    assert torch.allclose(result.flow_ir2vi.cpu(), expected.flow_ir2vi, atol=0.05)
