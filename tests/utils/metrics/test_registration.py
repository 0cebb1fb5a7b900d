"""Registration errors on displacements whose errors are known."""

import pytest
import torch

from datasets.deformation import TEST, random_deformation
from models.warping import central_rectangle, valid_mask
from utils.metrics.registration import folding, registration_metrics


def shift(dx, dy, height=40, width=60):
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, height, width).clone()


def test_the_inverse_is_perfect_and_the_identity_is_not():
    # ir_warp(q) = ir(q + (3, 4)): the registered image must look at p - (3, 4).
    perfect = registration_metrics(shift(-3.0, -4.0), shift(3.0, 4.0))
    assert perfect["EPE"] == pytest.approx(0, abs=1e-4) and perfect["RE"] == pytest.approx(0, abs=1e-4)
    assert perfect["EPE_above_1px"] == 0
    identity = registration_metrics(shift(0.0, 0.0), shift(3.0, 4.0))
    assert identity["EPE"] == pytest.approx(5) and identity["RE"] == pytest.approx(5)
    assert identity["EPE_median"] == pytest.approx(5) and identity["EPE_p95"] == pytest.approx(5)
    assert identity["EPE_above_3px"] == 1


def test_the_forward_field_is_not_its_inverse():
    wrong = registration_metrics(shift(3.0, 4.0), shift(3.0, 4.0))
    assert wrong["EPE"] == pytest.approx(10) and wrong["RE"] == pytest.approx(10)


def test_only_pixels_with_a_partner_count():
    estimate = shift(-10.0, 0.0)
    estimate[:, :, :, :10] = 99.0  # these would need pixels left of the frame
    assert registration_metrics(estimate, shift(10.0, 0.0))["EPE"] == pytest.approx(0, abs=1e-4)


def test_shares_and_quantiles():
    estimate = shift(0.0, 0.0)
    estimate[:, 0, :, :15] = 2.0
    estimate[:, 0, :, 15:18] = 4.0
    scores = registration_metrics(estimate, shift(0.0, 0.0))
    assert scores["EPE_above_1px"] == pytest.approx(18 / 60)
    assert scores["EPE_above_3px"] == pytest.approx(3 / 60)
    assert scores["EPE_above_5px"] == 0
    assert scores["EPE_median"] == 0 and scores["EPE"] == pytest.approx((15 * 2 + 3 * 4) / 60)


def test_an_exact_inverse_of_a_random_deformation_scores_zero():
    deformation = random_deformation(1, (120, 160), TEST, torch.Generator().manual_seed(0))
    scores = registration_metrics(deformation.inverse_displacement(), deformation.displacement())
    assert scores["EPE"] < 0.01 and scores["RE"] < 0.01


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="shapes"):
        registration_metrics(shift(0.0, 0.0), shift(0.0, 0.0, 41))
    with pytest.raises(ValueError, match="finite"):
        registration_metrics(shift(float("nan"), 0.0), shift(0.0, 0.0))


@pytest.mark.parametrize("height, width", [(8, 10), (7, 9), (8, 9)])
def test_central_rectangle_by_hand(height, width):
    valid = torch.ones(height, width)
    assert central_rectangle(valid) == (slice(0, height), slice(0, width))
    valid[0] = 0  # a band above costs the row below too: the rectangle stays central
    assert central_rectangle(valid) == (slice(1, height - 1), slice(0, width))
    valid[:, -2:] = 0
    assert central_rectangle(valid) == (slice(1, height - 1), slice(2, width - 2))


def test_central_rectangle_is_the_largest():
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        mask = (torch.rand(9, 10, generator=generator) > 0.08).float()
        mask[4, 4:6] = 1
        areas = [
            (9 - 2 * i) * (10 - 2 * j) for i in range(5) for j in range(5) if mask[i : 9 - i, j : 10 - j].min() > 0
        ]
        rows, columns = central_rectangle(mask)
        assert mask[rows, columns].numel() == max(areas) and mask[rows, columns].min() > 0
    with pytest.raises(ValueError, match="no central rectangle"):
        central_rectangle(torch.zeros(4, 4))


def test_the_band_free_crop_samples_inside_the_image():
    deformation = random_deformation(1, (96, 128), TEST, torch.Generator().manual_seed(1))
    valid = valid_mask(deformation.displacement())[0, 0]
    rows, columns = central_rectangle(valid)
    assert valid[rows, columns].min() == 1 and valid.min() == 0
    assert valid[rows, columns].numel() > 0.4 * valid.numel()


def test_folding_by_hand():
    valid = torch.ones(1, 1, 40, 60)
    assert folding(shift(5.0, -3.0), valid) == 0
    x = torch.arange(60.0).view(1, 1, 1, 60).expand(1, 1, 40, 60)
    zero = torch.zeros_like(x)
    assert folding(torch.cat((-0.9 * x, zero), dim=1), valid) == 0  # squeezed to a tenth
    assert folding(torch.cat((-1.1 * x, zero), dim=1), valid) == 1  # mirrored
    across, down = x[..., :40], x[..., :40].transpose(2, 3)
    swapped = torch.cat((down - across, across - down), dim=1)
    assert folding(swapped, valid[..., :40]) == 1  # x and y exchanged: determinant -1
    half = torch.cat((torch.where(x >= 30, -2 * x, zero), zero), dim=1)
    assert folding(half, valid) == pytest.approx(30 / 59)
    valid[..., 29:] = 0
    assert folding(half, valid) == 0
    assert registration_metrics(shift(0.0, 0.0), shift(1.0, 0.0))["folding"] == 0
