"""Colour conversion as published, by hand and round trip."""

import torch

from utils.colour import luminance, rgb_to_ycbcr, ycbcr_to_rgb


def test_pure_red_by_hand():
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    y, cb, cr = (x.item() for x in rgb_to_ycbcr(red))
    assert abs(y - 0.299) < 1e-6
    assert abs(cb - (0.5 - 0.564 * 0.299)) < 1e-6
    assert abs(cr - (0.5 + 0.713 * 0.701)) < 1e-6


def test_gray_has_no_colour_and_is_its_own_luminance():
    gray = torch.rand(2, 1, 3, 4)
    y, cb, cr = rgb_to_ycbcr(gray.expand(-1, 3, -1, -1))
    assert torch.allclose(y, gray, atol=1e-6)
    assert torch.allclose(cb, torch.tensor(0.5)) and torch.allclose(cr, torch.tensor(0.5))
    assert torch.equal(luminance(gray), gray)


def test_round_trip_and_range():
    image = torch.rand(2, 3, 8, 8)
    # The published coefficients are rounded, so the way back is exact to a few thousandths only.
    assert (ycbcr_to_rgb(*rgb_to_ycbcr(image)) - image).abs().max() < 5e-3
    bright = ycbcr_to_rgb(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    assert bright.min() >= 0 and bright.max() <= 1
