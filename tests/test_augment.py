"""Photometric augmentation changes how an image looks, not where things are."""

import torch

from datasets.augment import photometric


def draw(modality, seeds, image):
    return [photometric(modality, image, torch.Generator().manual_seed(seed)) for seed in seeds]


def test_range_shape_and_seed():
    image = torch.rand(1, 3, 16, 16)
    for out in draw("vi", range(20), image) + draw("ir", range(20), image[:, :1]):
        assert 0 <= out.min() and out.max() <= 1 and out.shape[-2:] == (16, 16)
    a, b, c = (draw("vi", [seed], image)[0] for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_structure_stays_and_only_infrared_is_ever_inverted():
    ramp = torch.linspace(0.2, 0.9, 64).view(1, 1, 1, 64).expand(1, 1, 32, 64)

    def signs(modality):
        outs = draw(modality, range(60), ramp)
        return [torch.corrcoef(torch.stack((out.mean((0, 1, 2)), ramp[0, 0, 0])))[0, 1] for out in outs]

    assert all(sign > 0.9 for sign in signs("vi"))
    infrared = signs("ir")
    assert all(abs(sign) > 0.9 for sign in infrared) and 1 <= sum(sign < 0 for sign in infrared) <= 15


def test_night_is_darker_in_the_visible_image():
    bright = torch.full((1, 3, 8, 8), 0.9)
    darkest = min(out.mean() for out in draw("vi", range(60), bright))
    assert darkest < 0.2 < 0.35 < min(out.mean() for out in draw("ir", range(60), bright) if out.mean() > 0.3)
