"""Every loss term: zero at its optimum, a value worked by hand off it, gradients that check."""

import pytest
import torch

from losses import flow, fusion
from losses.objectives import rf_objective
from utils.config import Loss

ONES = torch.ones(1, 1, 8, 8)


def constant(value, size=8):
    return torch.full((1, 2, size, size), value)


def test_end_point_is_zero_at_the_truth_on_all_scales():
    target = constant(8.0)
    flows = [constant(1.0, 1), constant(2.0, 2), constant(8.0)]
    assert flow.end_point(flows, target, ONES) == pytest.approx(0, abs=1e-6)


def test_end_point_by_hand():
    target = torch.zeros(1, 2, 8, 8)
    # Errors in pixels of the image: (3, 4) at every scale, length 5.
    flows = [torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, n, n) * n / 8 for n in (1, 2, 8)]
    expected = sum(flow.SCALE_WEIGHTS) * ((25 + 0.01) ** 0.5 - 0.1)
    assert flow.end_point(flows, target, ONES) == pytest.approx(expected, rel=1e-5)


def test_end_point_counts_valid_pixels_only():
    estimate = torch.zeros(1, 2, 8, 8)
    estimate[..., 4:] = 50.0
    valid = ONES.clone()
    valid[..., 4:] = 0
    flows = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8), estimate]
    assert flow.end_point(flows, torch.zeros(1, 2, 8, 8), valid) == pytest.approx(0, abs=1e-6)
    assert flow.end_point(flows, torch.zeros(1, 2, 8, 8), ONES) > 10


def test_end_point_gradient_does_not_stop_below_a_pixel():
    estimate = torch.full((1, 2, 4, 4), 0.05, requires_grad=True)
    flow.end_point([estimate] * 3, torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4)).backward()
    assert (estimate.grad > 0).all()


def test_smoothness_is_zero_for_affine_flows_and_by_hand_for_a_kink():
    ramp = torch.arange(8.0).view(1, 1, 1, 8) * torch.ones(1, 2, 8, 8)
    assert flow.smoothness([ramp, ramp]) == pytest.approx(0, abs=1e-6)
    kink = (torch.arange(8.0) - 3).clamp(min=0).view(1, 1, 1, 8) * torch.ones(1, 2, 8, 8)
    assert flow.smoothness([kink]) == pytest.approx(1 / 6)  # one second difference of 1 among 6 a row


def pictures():
    torch.manual_seed(0)
    return torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)


def test_fusion_terms_are_zero_at_their_optimum():
    ir, _ = pictures()
    assert fusion.intensity(ir, ir, 0.5 * ir, ONES) == 0
    assert fusion.gradient(ir, ir, 0.5 * ir, ONES) == 0
    assert fusion.structure(ir, ir, ir, ONES) == pytest.approx(0, abs=1e-5)
    assert fusion.fusion(ir, ir, ir, ONES) == pytest.approx(0, abs=1e-5)


def test_fusion_terms_by_hand():
    ramp = (torch.arange(8.0) / 10).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    flat = torch.full((1, 1, 8, 8), 0.2)
    # Sobel of a ramp of 0.1 a pixel: 8 * 0.1 inside, half of it at both repeated edges.
    assert fusion.gradient(flat, ramp, flat, ONES) == pytest.approx((6 * 0.8 + 2 * 0.4) / 8)
    assert fusion.intensity(flat, flat + 0.3, flat, ONES) == pytest.approx(0.3)
    # Two constants a, b: SSIM is (2ab + c) / (a^2 + b^2 + c).
    a, b, c = 0.2, 0.5, 1e-4
    expected = 1 - (2 * a * b + c) / (a * a + b * b + c)
    assert fusion.structure(flat, flat + 0.3, flat + 0.3, ONES) == pytest.approx(expected, rel=1e-4)


def test_fusion_terms_look_inside_the_mask_only():
    ir, vi = pictures()
    mask = ONES.clone()
    mask[..., 5:] = 0
    other = ir.clone()
    other[..., 5:] = 0
    assert fusion.intensity(other, ir, ir, mask) == 0
    assert fusion.intensity(other, ir, ir, ONES) > 0
    assert fusion.fusion(vi, ir, vi, torch.zeros_like(ONES)) == 0


@pytest.mark.parametrize("term", [fusion.gradient, fusion.intensity])
def test_gradients_of_fusion_terms(term):
    ir, vi = (x.double() for x in pictures())
    fused = torch.rand(1, 1, 8, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: term(f, ir, vi, ONES.double()), fused)


def test_structure_gradient_raises_similarity():
    ir, vi = pictures()
    fused = torch.rand(1, 1, 8, 8, requires_grad=True)
    before = fusion.structure(fused, ir, vi, ONES)
    before.backward()
    assert fusion.structure(fused.detach() - 0.05 * fused.grad / fused.grad.abs().max(), ir, vi, ONES) < before


def test_the_objective_weighs_and_names_its_terms():
    target = constant(2.0)
    flows = {d: [constant(0.0, 3), constant(0.0, 4), constant(0.0)] for d in ("ir2vi", "vi2ir")}
    batch = {f"flow_{d}": target for d in flows} | {f"valid_{d}": ONES for d in flows}
    ir, vi = pictures()
    result = {"flows": flows, "fused": vi, "registered": ir, "vi": vi, "valid": ONES}
    terms = rf_objective(result, batch, Loss(end_point=2.0, smoothness=0.5, fusion=3.0))
    assert set(terms) == {"end_point", "smoothness", "fusion", "total"}
    assert terms["end_point"] == pytest.approx(4 * float(flow.end_point(flows["ir2vi"], target, ONES)))
    assert terms["fusion"] == pytest.approx(3 * float(fusion.fusion(vi, ir, vi, ONES)))
    assert terms["total"] == pytest.approx(float(terms["end_point"] + terms["smoothness"] + terms["fusion"]))
    # A term of weight 0 is left out, and what it needs may be missing.
    assert set(rf_objective({"flows": flows}, batch, Loss(fusion=0))) == {"end_point", "smoothness", "total"}
