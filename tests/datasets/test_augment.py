"""Photometric augmentation changes how each image looks, not where things are."""

import pytest
import torch

from datasets.augment import other_modality, photometric


def augment(modality, image, seed=0):
    return photometric(modality, image, torch.Generator().manual_seed(seed))


def made_up(image, seed=0):
    return other_modality(image, torch.Generator().manual_seed(seed))


def ramps(count, channels):
    return torch.linspace(0.2, 0.9, 64).expand(count, channels, 32, 64)


def test_range_shape_and_seed():
    image = torch.rand(20, 3, 16, 16)
    for out in (augment("vi", image), augment("ir", image[:, :1])):
        assert 0 <= out.min() and out.max() <= 1 and out.shape[2:] == (16, 16) and out.dtype == torch.float32
    assert augment("vi", image).shape == image.shape and augment("ir", image[:, :1]).shape == (20, 1, 16, 16)
    assert torch.equal(augment("vi", image), augment("vi", image))
    assert not torch.equal(augment("vi", image), augment("vi", image, seed=1))


@pytest.mark.parametrize("change", [photometric, other_modality])
def test_all_randomness_comes_from_the_generator_and_goes_on_where_it_stands(change):
    arguments = ("vi",) if change is photometric else ()
    image, generator = torch.rand(6, 3, 16, 16), torch.Generator().manual_seed(3)
    change(*arguments, image, generator)
    state, everybodys = generator.get_state(), torch.get_rng_state()
    following = change(*arguments, image, generator)
    assert torch.equal(torch.get_rng_state(), everybodys)
    torch.manual_seed(99)
    generator.set_state(state)
    assert torch.equal(change(*arguments, image, generator), following)


def test_an_image_changes_alike_whatever_the_others_show():
    # What is drawn for an image depends on its place in the batch, not on the other images.
    image = ramps(5, 3)
    other = image.clone()
    other[4] = 0.1
    assert torch.equal(augment("vi", image)[:4], augment("vi", other)[:4])


def test_every_image_of_a_batch_changes_on_its_own():
    out = augment("vi", ramps(20, 3))
    # The mean of its three channels is that of one change; no two images share theirs.
    means = out.mean(dim=(1, 2, 3)).sort().values
    assert means.diff().min() > 1e-5 and means[-1] - means[0] > 0.3
    assert out.mean(dim=(2, 3)).std(dim=1).max() < 0.002


def test_the_noise_is_weak_and_independent():
    deviation = augment("ir", torch.full((64, 1, 32, 32), 0.5)).std(dim=(1, 2, 3))
    assert 0.017 < deviation.max() < 0.022 and deviation.min() < 0.002
    # Neighbours, and the same pixel in two images, have noise of their own.
    noise = augment("ir", torch.full((64, 1, 32, 32), 0.5)).flatten(1)
    noise = (noise - noise.mean(dim=1, keepdim=True)) / noise.std(dim=1, keepdim=True)
    assert (noise[:, 1:] * noise[:, :-1]).mean().abs() < 0.05 and (noise[1:] * noise[:-1]).mean().abs() < 0.05


def test_structure_stays_and_only_infrared_is_ever_inverted():
    ramp = ramps(1, 1)[0, 0, 0]

    def signs(modality):
        outs = augment(modality, ramps(200, 1)).mean(dim=(1, 2))
        return torch.stack([torch.corrcoef(torch.stack((out, ramp)))[0, 1] for out in outs])

    assert (signs("vi") > 0.9).all()
    infrared = signs("ir")
    assert (infrared.abs() > 0.9).all() and 8 <= (infrared < 0).sum() <= 35


def test_night_is_darker_in_the_visible_image():
    bright = torch.full((200, 3, 8, 8), 0.9)
    vi, ir = (augment(modality, bright).mean(dim=(1, 2, 3)) for modality in ("vi", "ir"))
    # Down to an eighth, or for IR (not inverted) to a half; half of them keep their brightness.
    assert 0.9 / 8 * 0.9 < vi.min() < 0.2 < 0.4 < ir[ir > 0.3].min()
    assert 0.35 < (vi > 0.8).float().mean() < 0.75


def scene(count):
    """A bright disc, half as bright stripes and a gradient, in different colours."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((x - 40) ** 2 + (y - 24) ** 2 < 150).float()
    stripes = (torch.sin(x / 3) > 0).float() * (y > 40)
    image = torch.stack((0.8 * disc + 0.1, 0.5 * stripes + 0.2 * disc + 0.1, y / 128 + 0.3 * disc))
    return image.clamp(0, 1).expand(count, -1, -1, -1)


def test_another_modality_keeps_the_edges_and_changes_the_tones():
    seen = made_up(scene(64))
    assert seen.shape == (64, 1, 64, 64) and seen.min() >= 0 and seen.max() <= 1
    inside, outside = seen[:, 0, 20:28, 36:44].mean(dim=(1, 2)), seen[:, 0, 2:8, 4:20].mean(dim=(1, 2))
    # The disc is brighter in some, darker in others, and nearly always told from its surroundings.
    assert 0.2 < (inside > outside).float().mean() < 0.8
    assert ((inside - outside).abs() > 0.03).float().mean() > 0.85
    # Its edge stays where it is: the gradient there is stronger than in the flat parts beside it.
    across = seen[:, 0, 24].diff(dim=1).abs()
    edge, flat = across[:, 51:54].amax(dim=1), across[:, 36:46].mean(dim=1)
    assert (edge > flat).float().mean() > 0.9


def test_half_of_the_tone_curves_are_monotone():
    ramp = torch.linspace(0, 1, 256).expand(200, 3, 8, 256)
    tones = made_up(ramp)[:, 0].mean(dim=1)
    smooth = torch.nn.functional.avg_pool1d(tones[:, None], 33, 8)[:, 0].diff(dim=1)
    ways = (smooth > 0.01).any(dim=1).float() + (smooth < -0.01).any(dim=1).float()
    assert 0.3 < (ways == 1).float().mean() < 0.8 and (ways == 2).float().mean() > 0.15


@pytest.mark.gpu
def test_a_gpu_changes_images_without_waiting_for_it(no_waiting):
    image, generator = scene(8).cuda(), torch.Generator("cuda").manual_seed(0)
    with no_waiting:
        outs = photometric("vi", image, generator), other_modality(image, generator)
    for out in outs:
        assert out.device.type == "cuda" and 0 <= out.min() and out.max() <= 1
        assert (out.mean(dim=1) - image.mean(dim=1)).abs().mean() > 0.01
