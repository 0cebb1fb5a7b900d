"""The registered image ends without a frame."""

import pytest
import torch

from models.blending import BORDER, BRIGHTNESS_FADE, TEXTURE_FADE, content, fade
from models.results import Registration

HEIGHT, WIDTH, END = 96, 192, 128  # content lies in the columns before END
FAR = END - BORDER - 2 * BRIGHTNESS_FADE - 1


@pytest.fixture
def inside():
    return (torch.arange(WIDTH) < END).expand(1, 1, HEIGHT, WIDTH)


def test_far_inside_it_is_the_fused_image_and_outside_it_is_vi(inside):
    fused, vi = torch.rand(2, 1, 3, HEIGHT, WIDTH).unbind()
    faded = fade(fused, vi, inside)
    assert torch.equal(faded[..., :FAR], fused[..., :FAR])
    assert torch.equal(faded[..., END:], vi[..., END:])
    assert torch.equal(faded[..., END - BORDER :], vi[..., END - BORDER :])


def test_a_difference_in_brightness_fades_slowly(inside):
    """No step of more than a fair share of 0.4 over 48 pixels, where a ramp over the texture's 12 has 0.033."""
    vi = torch.full((1, 3, HEIGHT, WIDTH), 0.3)
    faded = fade(vi + 0.4, vi, inside)
    assert faded.diff(dim=-1).abs().max() < 1.5 * 0.4 / (2 * BRIGHTNESS_FADE)
    assert faded[..., 0, : FAR + 1] == pytest.approx(0.7)


def test_texture_goes_on_almost_to_the_end(inside):
    vi = torch.full((1, 3, HEIGHT, WIDTH), 0.3)
    checks = 0.1 * ((torch.arange(HEIGHT)[:, None] + torch.arange(WIDTH)) % 2 * 2 - 1)
    faded = fade(vi + checks, vi, inside)
    last = END - BORDER - 2 * TEXTURE_FADE - 1
    assert faded[..., last - 4 : last] - vi[..., last - 4 : last] == pytest.approx(
        checks[:, last - 4 : last].expand(1, 3, -1, -1), abs=0.01
    )


def test_results_stay_in_range(inside):
    fused, vi = torch.rand(2, 1, 3, HEIGHT, WIDTH).round().unbind()
    faded = fade(fused, vi, inside)
    assert 0 <= faded.min() and faded.max() <= 1


def test_content_ends_at_the_warp_and_at_a_black_band():
    ir = torch.rand(1, 1, 40, 60) * 0.5 + 0.5
    ir[..., 50:] = 0
    flow = torch.zeros(1, 2, 40, 60)
    flow[:, 0] = -5  # content of column x comes from x - 5
    found = content(ir, Registration.by_flow(ir, flow))[0, 0, 20]
    assert found.tolist() == [5 <= x < 55 for x in range(60)]
