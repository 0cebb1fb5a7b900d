"""The target of fusion on scenes where it is plain what a viewer wants."""

import math

import pytest
import torch

from losses.target import infrared_share, salience
from losses.target import target as target_and_share

SIZE = 160
WHOLE = torch.ones(1, 1, SIZE, SIZE)


def target(ir: torch.Tensor, vi: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    image, share = target_and_share(ir, vi, mask)
    assert torch.equal(share, infrared_share(ir, vi, mask))
    return image


def flat(level: float) -> torch.Tensor:
    return torch.full((1, 1, SIZE, SIZE), level)


def texture(level: float, amplitude: float, seed: int = 0) -> torch.Tensor:
    noise = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return level + amplitude * (noise - 0.5)


def with_person(background: torch.Tensor, level: float) -> torch.Tensor:
    image = background.clone()
    image[..., 60:100, 70:86] = level
    return image


PERSON = (..., slice(64, 96), slice(74, 82))
AWAY = (..., slice(0, 40), slice(None))


def test_a_person_glows_in_daylight():
    vi = texture(0.5, 0.2)
    fused = target(with_person(flat(0.3), 0.9), vi, WHOLE)
    assert fused[PERSON] == pytest.approx(0.9, abs=0.04)
    assert fused[AWAY] == pytest.approx(vi[AWAY], abs=0.02)


def test_a_warm_road_keeps_the_brightness_of_vi():
    vi = texture(0.5, 0.2)
    ir = flat(0.2)
    ir[..., 80:, :] = 0.9
    fused = target(ir, vi, WHOLE)
    assert fused[..., 120:, :] == pytest.approx(vi[..., 120:, :], abs=0.02)


def test_in_the_dark_the_brighter_source_is_taken():
    vi = flat(0.05)
    assert target(flat(0.5), vi, WHOLE) == pytest.approx(0.5, abs=0.03)
    assert target(flat(0.05), vi, WHOLE) == pytest.approx(0.05, abs=0.01)


def test_smoke_shows_the_texture_of_infrared_and_keeps_its_brightness():
    vi = flat(0.6)
    stripes = 0.3 + 0.1 * torch.sin(torch.arange(SIZE) * (2 * math.pi / 6)).expand(1, 1, SIZE, SIZE)
    fused = target(stripes, vi, WHOLE)
    middle = (..., slice(60, 100), slice(60, 100))
    assert fused[middle].mean() == pytest.approx(0.6, abs=0.01)
    assert fused[middle].std() == pytest.approx(float(stripes[middle].std()), rel=0.1)
    # Where VI has texture of its own, or is saturated, none is added.
    for other in (texture(0.6, 0.4), flat(1.0)):
        assert target(stripes, other, WHOLE)[middle] == pytest.approx(other[middle], abs=0.02)


def test_texture_moves_no_pixel_far():
    ir = flat(0.3)
    ir[..., ::8] = 0.35
    ir[..., 80] = 1.0
    change = (target(ir, flat(0.6), WHOLE) - 0.6)[..., :, 70:90]
    assert change.abs().max() < 0.25


def test_the_share_in_the_dark_by_hand():
    """Far below 0.18 VI is dark; nothing is salient, nothing has edges: sigmoid(40 (D - 0.1))."""
    for difference in (0.05, 0.1, 0.2):
        middle = infrared_share(flat(0.0 + difference), flat(0.0), WHOLE)[0, 0, 80, 80]
        dark = 1 / (1 + math.exp(-0.18 / 0.04))
        assert middle == pytest.approx(dark / (1 + math.exp(-40 * (difference - 0.1))), rel=1e-3)


def test_salience_by_hand():
    """A spot on black: its surroundings have its level times the share of the Gaussian (sigma 32) that it fills."""
    half = 20
    filled = math.erf((half + 0.5) / (32 * math.sqrt(2))) ** 2
    for level, expected in ((0.15, 0.0), (0.5, 1.0), (0.25 / (1 - filled), 0.5)):
        ir = flat(0.0)
        ir[..., 80 - half : 81 + half, 80 - half : 81 + half] = level
        found = salience(ir, WHOLE)[0, 0]
        assert found[80, 80] == pytest.approx(expected, abs=0.05)
        assert found[20, 20] == 0


def test_salience_follows_the_outline_of_infrared():
    ir = with_person(flat(0.2), 0.9)
    found = salience(ir, WHOLE)[0, 0]
    assert found[80, 69] < 0.2 < 0.8 < found[80, 72]


def test_the_black_beyond_a_warped_image_is_not_seen():
    mask = WHOLE.clone()
    mask[..., 110:] = 0
    ir, vi = with_person(texture(0.3, 0.05), 0.9), texture(0.5, 0.2, seed=1)
    inside = (..., slice(0, 100))
    seen = target(ir * mask, vi, mask)[inside]
    assert seen == pytest.approx(target(ir, vi, WHOLE)[inside], abs=0.06)
    other = torch.where(mask > 0, ir, torch.full_like(ir, 0.7))
    assert torch.equal(target(other, vi, mask)[inside], seen)
