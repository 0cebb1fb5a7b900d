"""Every loss term on images and flows: zero at its optimum, a value worked by hand off it, gradients that check."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from losses import flow, fusion, photometric
from losses.basics import erode, masked_mean, second_differences
from losses.target import target

ONES = torch.ones(1, 1, 8, 8)


def on_sources(term):
    """A term on the selected image as a function of (fused, ir, vi, mask), as the others are."""

    def of_sources(fused, ir, vi, mask):
        return term(fused, target(ir, vi, mask)[0], mask)

    of_sources.__name__ = term.__name__
    return of_sources


selection, detail = on_sources(fusion.selection), on_sources(fusion.detail)


def edges(fused, ir, vi, mask, share=0.0):
    return fusion.edges(fused, ir, vi, torch.full_like(ir, share), mask)


def constant(value, size=8):
    return torch.full((1, 2, size, size), value)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def left(columns, size=8):
    """A mask of the first ``columns``."""
    return (torch.arange(size) < columns).float().expand(1, 1, size, size)


def pictures(size=8, dtype=torch.float32):
    return noise(1, 1, size, size, seed=1, dtype=dtype), noise(1, 1, size, size, seed=2, dtype=dtype)


@pytest.fixture
def exact_blur(monkeypatch):
    """The terms' Gaussian in the precision of its input, for gradient checks; the original uses float32."""

    def blur(x, kernel, border):
        half, channels = kernel.numel() // 2, x.shape[1]
        x = torch.nn.functional.pad(x, (half,) * 4, mode=border)
        weights = (kernel[:, None] * kernel).to(x).expand(channels, 1, -1, -1)
        return torch.nn.functional.conv2d(x, weights, groups=channels)

    for module in (photometric, fusion):
        monkeypatch.setattr(module, "blur", blur)


# What terms are made of


def test_a_masked_mean_is_the_mean_of_its_samples_means():
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 9.0], [1.0, 1.0, 1.0, 1.0]]).view(3, 1, 1, 4)
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]).view(3, 1, 1, 4).float()
    assert masked_mean(x, mask) == pytest.approx((3 + 9 + 0) / 3)
    assert masked_mean(x.expand(3, 2, 5, 4), mask) == pytest.approx(4)  # the mask is broadcast


def test_second_differences_by_hand():
    x = torch.tensor([[0.0, 1.0, 4.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0]]).view(1, 1, 3, 3)
    along_y, along_x = second_differences(x)
    assert along_y.flatten().tolist() == [5, 1, 4] and along_x.flatten().tolist() == [2, 0, 5]


def test_a_mask_is_eroded_from_its_own_edge_and_not_from_the_frame():
    assert torch.equal(erode(left(5), 2), left(3))
    assert torch.equal(erode(ONES, 3), ONES)
    mask = (noise(2, 1, 40, 30) > 0.03).float()
    for radius in (1, 5):
        square = -torch.nn.functional.max_pool2d(-mask, 2 * radius + 1, stride=1, padding=radius)
        assert torch.equal(erode(mask, radius), square)


# Flows


def test_epe_is_zero_at_the_truth_on_all_scales():
    target = constant(8.0)
    flows = [constant(1.0, 1), constant(2.0, 2), constant(8.0)]
    assert flow.epe(flows, target, ONES) == pytest.approx(0, abs=1e-6)


def test_epe_by_hand():
    target = torch.zeros(1, 2, 8, 8)
    # Errors in pixels of the image: (3, 4) at every scale, length 5.
    flows = [torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, n, n) * n / 8 for n in (1, 2, 8)]
    expected = sum(flow.SCALE_WEIGHTS) * ((25 + 0.01) ** 0.5 - 0.1)
    assert flow.epe(flows, target, ONES) == pytest.approx(expected, rel=1e-5)
    # One scale alone: its weight.
    flows[:2] = [torch.zeros(1, 2, n, n) for n in (1, 2)]
    assert flow.epe(flows, target, ONES) == pytest.approx(expected / sum(flow.SCALE_WEIGHTS), rel=1e-5)


def test_epe_counts_valid_pixels_only():
    estimate = torch.zeros(1, 2, 8, 8)
    estimate[..., 4:] = 50.0
    flows = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8), estimate]
    assert flow.epe(flows, torch.zeros(1, 2, 8, 8), left(4)) == pytest.approx(0, abs=1e-6)
    assert flow.epe(flows, torch.zeros(1, 2, 8, 8), ONES) > 10


def test_epe_gradient_does_not_stop_below_a_pixel():
    estimate = torch.full((1, 2, 4, 4), 0.05, requires_grad=True)
    flow.epe([estimate] * 3, torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4)).backward()
    assert (estimate.grad > 0).all()


def test_smoothness_is_zero_for_affine_flows_and_by_hand_for_a_kink():
    ramp = torch.arange(8.0).view(1, 1, 1, 8) * torch.ones(1, 2, 8, 8)
    assert flow.smoothness([ramp + ramp.mT, ramp]) == pytest.approx(0, abs=1e-6)
    kink = (torch.arange(8.0) - 3).clamp(min=0).view(1, 1, 1, 8) * torch.ones(1, 2, 8, 8)
    assert flow.smoothness([kink]) == pytest.approx(1 / 6)  # one second difference of 1 among 6 a row
    assert flow.smoothness([kink.mT, ramp, -kink]) == pytest.approx(2 / 6)


def test_border_is_zero_inside_the_frame_and_by_hand_outside():
    grid = torch.arange(8.0)
    inwards = torch.stack((3.5 - grid.expand(8, 8), 3.5 - grid.view(8, 1).expand(8, 8)))[None]
    assert flow.border(inwards, ONES) == 0 and flow.border(2 * inwards, ONES) == 0
    away = torch.cat((constant(3.0)[:, :1], constant(-2.0)[:, :1]), dim=1)
    # To the right the last three columns leave by 1, 2 and 3 pixels, upwards the first two rows by 2 and 1.
    assert flow.border(away, ONES) == pytest.approx((1 + 2 + 3) / 8 + (2 + 1) / 8)
    assert flow.border(away, left(6)) == pytest.approx(1 / 6 + 3 / 8)
    assert flow.border(away.flip(1), 1 - left(2)) == pytest.approx(0 + 6 / 8)


def test_gradients_of_flow_terms():
    shapes = [(2, 2, 3, 3), (2, 2, 4, 5), (2, 2, 6, 7)]
    target, valid = 4 * noise(*shapes[2], seed=9, dtype=torch.double), (noise(2, 1, 6, 7) > 0.3).double()
    flows = [(8 * noise(*shape, seed=i, dtype=torch.double) - 4).requires_grad_() for i, shape in enumerate(shapes)]
    assert torch.autograd.gradcheck(lambda *f: flow.epe(list(f), target, valid), flows)
    assert torch.autograd.gradcheck(lambda *f: flow.smoothness(list(f)), flows)
    assert torch.autograd.gradcheck(lambda f: flow.border(f, valid), flows[2])


# Photometric


def test_photometric_is_zero_at_its_optimum():
    image, other = pictures(32)
    assert photometric.photometric(image, image, torch.ones_like(image)) == 0
    # A change of brightness is none of geometry: the images are standardised, and second differences lose it.
    brighter = photometric.photometric(image + 0.2, image, torch.ones_like(image))
    assert brighter == pytest.approx(0, abs=1e-4) and photometric.photometric(image, other, torch.ones_like(image)) > 1


def test_photometric_looks_inside_the_mask_only():
    image, other = pictures(32)
    mask = left(20, 32)
    changed = torch.where(mask > 0, image, other)
    assert photometric.photometric(changed, image, mask) == 0
    assert photometric.photometric(changed, image, torch.ones_like(image)) > 0.1
    assert photometric.photometric(other, image, torch.zeros_like(image)) == 0


def test_photometric_by_hand(monkeypatch):
    monkeypatch.setattr(photometric, "blur", lambda x, kernel, border: x)
    step = 1 - left(4)
    # Standardised, step and 1 - step are -1, 1 and 1, -1: everywhere |difference| = 2. Second differences of the
    # difference 1 - 2 step along x are 2 in two of six places, along y 0.
    expected = 0.1 * (2 + 2**2) + 0.9 * (2 * 2 / 6)
    assert photometric.photometric(1 - step, step, ONES) == pytest.approx(expected, rel=1e-4)
    # Without the last two columns, a third of the others is bright. Deviation sqrt(2) / 3; 0 becomes -1 / sqrt(2).
    values = torch.tensor([-(0.5**0.5), 2**0.5])
    mean = (4 * 2 * values[0].abs() + 2 * 2 * values[1]) / 6
    square = (4 * 4 * values[0] ** 2 + 2 * 4 * values[1] ** 2) / 6
    expected = 0.1 * (mean + square) + 0.9 * (2 * 2 / 4)
    assert photometric.photometric(1 - step, step, left(6)) == pytest.approx(expected.item(), rel=1e-4)


def test_photometric_agrees_with_the_formula_in_numpy():
    (warped, target), mask = pictures(40), noise(1, 1, 40, 40, seed=3) > 0.02
    a, b, m = (x[0, 0].double().numpy() for x in (warped * mask, target * mask, mask))

    def standard(image):
        smooth = gaussian_filter(image, sigma=2, radius=6, mode="nearest")
        inside = smooth[m > 0]
        return (smooth - inside.mean()) / np.sqrt(inside.var() + 1e-6)

    difference = np.abs(standard(a) - standard(b))[m > 0]
    expected = 0.1 * (difference + difference**2).mean()
    for axis in (0, 1):
        whole = np.minimum(np.minimum(*(np.roll(m, shift, axis) for shift in (0, 1))), np.roll(m, 2, axis))
        change = np.diff(a, 2, axis) - np.diff(b, 2, axis)
        expected += 0.9 * np.abs(change)[np.delete(whole, (0, 1), axis) > 0].mean()
    assert photometric.photometric(warped, target, mask.float()) == pytest.approx(expected, rel=1e-4)


def test_gradient_of_photometric(exact_blur):
    warped, target = (noise(2, 1, 9, 10, seed=i, dtype=torch.double) for i in range(2))
    mask = torch.ones(2, 1, 9, 10, dtype=torch.double)
    mask[1, :, :, 7:] = 0
    assert torch.autograd.gradcheck(lambda x: photometric.photometric(x, target, mask), warped.requires_grad_())


# Fusion


def test_fusion_terms_are_zero_at_their_optimum():
    ir, _ = pictures()
    assert fusion.intensity(ir, ir, 0.5 * ir, ONES) == 0 and fusion.intensity(ir, 0.5 * ir, ir, ONES) == 0
    assert fusion.gradient(ir, ir, 0.5 * ir, ONES) == 0 and fusion.gradient(ir, 0.5 * ir, ir, ONES) == 0
    assert fusion.ssim(ir, ir, ir, ONES) == pytest.approx(0, abs=1e-5)
    assert fusion.consistency(ir, ir, ONES) == 0
    chosen = target(ir, 0.5 * ir, ONES)[0]
    assert fusion.selection(chosen, chosen, ONES) == pytest.approx(0, abs=1e-7)
    assert fusion.detail(chosen, chosen, ONES) == pytest.approx(0, abs=1e-5)


def test_fusion_terms_by_hand():
    ramp = (torch.arange(8.0) / 10).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    flat = torch.full((1, 1, 8, 8), 0.2)
    # Sobel of a ramp of 0.1 a pixel: 8 * 0.1 inside, half of it at both repeated edges.
    for image in (ramp, ramp.mT):
        assert fusion.gradient(flat, image, flat, ONES) == pytest.approx((6 * 0.8 + 2 * 0.4) / 8)
        assert fusion.gradient(2 * image, flat, image, ONES) == pytest.approx((6 * 0.8 + 2 * 0.4) / 8)
    assert fusion.intensity(flat, flat + 0.3, flat, ONES) == pytest.approx(0.3)
    assert fusion.selection(flat + 0.3, flat, ONES) == pytest.approx(0.3, rel=1e-4)
    assert fusion.consistency(flat, flat + 0.3 * left(2), ONES) == pytest.approx(0.3 / 4)
    assert fusion.consistency(flat, flat + 0.3 * left(2), left(4)) == pytest.approx(0.3 / 2)
    # Two constants a, b: SSIM is (2ab + c) / (a^2 + b^2 + c).
    a, b, c = 0.2, 0.5, 1e-4
    expected = 1 - (2 * a * b + c) / (a * a + b * b + c)
    assert fusion.ssim(flat, flat + 0.3, flat + 0.3, ONES) == pytest.approx(expected, rel=1e-4)
    assert fusion.ssim(flat, flat + 0.3, flat, ONES) == pytest.approx(expected / 2, rel=1e-4)


def test_edges_by_hand():
    # Sobel of a ramp of 0.1 a pixel: 0.8 inside, 0.4 at both repeated edges, 0.7 on average.
    ramp = (torch.arange(8.0) / 10).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    flat = torch.full((1, 1, 8, 8), 0.2)
    direction = 1 / (1 + math.exp(-4.4))  # kept entirely
    kept, half = direction / (1 + math.exp(-7.5)), direction / 2
    for image in (ramp, ramp.mT):
        # Of two sources, one without edges; an edge of the opposite sign is as good.
        for fused in (image, 1 - image, image + 0.1):
            assert edges(fused, image, flat, ONES) == pytest.approx(0.7 * (1 - kept) / 2, abs=5e-5)
            assert edges(fused, image, image, ONES) == pytest.approx(0.7 * (1 - kept), abs=5e-5)
        for fused in (0.5 * image, 2 * image):
            assert edges(fused, flat, image, ONES) == pytest.approx(0.7 * (1 - half) / 2, rel=1e-3)
        # Nothing there, or an edge across.
        for fused in (flat, image.mT):
            assert edges(fused, image, image, ONES) == pytest.approx(0.7, rel=2e-3)
            # Where IR is shown, VI's edges do not count.
            assert edges(fused, image, image, ONES, share=0.75) == pytest.approx(0.7 * 1.25 / 2, rel=2e-3)
            assert edges(fused, flat, image, ONES, share=1.0) == pytest.approx(0, abs=1e-4)
    # Twice the strength, twice the loss: faint edges count as little as they look.
    once, twice = (edges(flat, factor * ramp, flat, ONES) for factor in (1, 2))
    assert twice == pytest.approx(2 * once.item(), rel=1e-3)


def test_the_gradient_of_edges_is_small_where_there_are_none():
    # What rounding adds to a flat region has a direction, which must not be pulled at.
    flat = (0.5 + 1e-7 * noise(1, 1, 8, 8)).requires_grad_()
    edges(flat, *pictures(), ONES).backward()
    assert flat.grad.norm() < 3


def test_detail_by_hand():
    ramp = (torch.arange(24.0) / 100).view(1, 1, 1, 24).expand(1, 1, 24, 24)
    # A ramp of 0.01 a pixel has differences of 0.01 along x, 0 along y: a contrast of 0.005. The error's differences
    # are 0.002 along one of both.
    for fused in (1.2 * ramp, ramp + 0.2 * ramp.mT, 0.8 * ramp + 0.3):
        assert fusion.detail(fused, ramp, torch.ones_like(ramp)) == pytest.approx(0.001 / 0.015, rel=1e-3)
    # Four times the contrast, and the same relative error, which the floor hides less.
    fused = fusion.detail(4.8 * ramp, 4 * ramp, torch.ones_like(ramp))
    assert fused == pytest.approx(0.004 / 0.03, rel=1e-3)


def test_ssim_of_an_inverted_image():
    # The covariance is minus the variance, so that SSIM comes near -1.
    x = 0.1 + 0.8 * noise(1, 1, 32, 32)
    assert fusion.ssim_maps(x, 1 - x)[0].max() < -0.5
    assert fusion.ssim(x, 1 - x, 1 - x, torch.ones_like(x)) > 1.5


def test_fusion_terms_look_inside_the_mask_only():
    ir, vi = pictures()
    other = ir * left(5)
    assert fusion.intensity(other, ir, ir, left(5)) == 0 < fusion.intensity(other, ir, ir, ONES)
    assert fusion.consistency(other, ir, left(5)) == 0 < fusion.consistency(other, ir, ONES)
    for term in (fusion.gradient, fusion.ssim, fusion.intensity, selection, detail, edges):
        assert term(vi, ir, vi, torch.zeros_like(ONES)) == 0


def test_the_black_beyond_a_warped_image_is_no_edge_to_fuse():
    flat = torch.full((1, 1, 24, 24), 0.7)
    mask = left(16, 24)
    for term in (fusion.gradient, fusion.ssim, selection, detail, edges):
        assert term(flat, flat * mask, flat, mask) == pytest.approx(0, abs=1e-5)
        assert term(flat, flat * mask, flat, torch.ones_like(mask)) > 0.002
    # What lies deeper inside counts.
    deep = flat + 0.2 * left(8, 24)
    for term in (fusion.gradient, fusion.ssim):
        assert term(flat, deep * mask, flat, mask) > 0.005


@pytest.mark.parametrize("term", [fusion.gradient, fusion.intensity, edges, selection, detail, fusion.ssim])
def test_gradients_of_fusion_terms(term, exact_blur):
    ir, vi = pictures(dtype=torch.double)
    fused = noise(1, 1, 8, 8, dtype=torch.double).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: term(f, ir, vi, ONES.double()), fused)


def test_gradients_of_consistency_reach_both_images():
    pair = [x.requires_grad_() for x in pictures(dtype=torch.double)]
    assert torch.autograd.gradcheck(lambda *f: fusion.consistency(*f, left(5).double()), pair)


# Batches


def batch_terms():
    """Every term as a function of indices into one batch whose samples have masks of different sizes."""
    images = [noise(3, 1, 16, 16, seed=i) for i in range(3)]
    masks = torch.cat((left(16, 16), left(7, 16), left(0, 16)))
    flows = [6 * noise(3, 2, n, n, seed=n) - 3 for n in (4, 8, 16)]
    target = 6 * noise(3, 2, 16, 16) - 3
    terms = {
        "epe": lambda i: flow.epe([f[i] for f in flows], target[i], masks[i]),
        "smoothness": lambda i: flow.smoothness([f[i] for f in flows]),
        "border": lambda i: flow.border(flows[2][i], masks[i]),
        "photometric": lambda i: photometric.photometric(images[0][i], images[1][i], masks[i]),
        "consistency": lambda i: fusion.consistency(images[0][i], images[1][i], masks[i]),
    }
    for term in (fusion.gradient, fusion.ssim, fusion.intensity, selection, detail, edges):
        terms[term.__name__] = lambda i, term=term: term(*(x[i] for x in images), masks[i])
    return terms


@pytest.mark.parametrize("name", batch_terms())
def test_a_batch_has_the_mean_loss_of_its_samples(name):
    # So a batch shared out among processes, which average their gradients, has the gradient of the whole.
    term = batch_terms()[name]
    alone = [term(slice(i, i + 1)).item() for i in range(3)]
    assert alone[0] > 0 and term(slice(0, 3)).item() == pytest.approx(sum(alone) / 3, rel=1e-4)
