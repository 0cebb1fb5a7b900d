"""Photometric augmentation changes how each image looks, not where things are."""

import pytest
import torch

from datasets.augment import photometric


def augment(modality, image, seed=0, noise_seed=0):
    return photometric(modality, image, *(torch.Generator().manual_seed(s) for s in (seed, noise_seed)))


def ramps(count, channels):
    return torch.linspace(0.2, 0.9, 64).expand(count, channels, 32, 64)


def test_range_shape_and_seed():
    image = torch.rand(20, 3, 16, 16)
    for out in (augment("vi", image), augment("ir", image[:, :1])):
        assert 0 <= out.min() and out.max() <= 1 and out.shape[2:] == (16, 16) and out.dtype == torch.float32
    assert augment("vi", image).shape == image.shape and augment("ir", image[:, :1]).shape == (20, 1, 16, 16)
    assert torch.equal(augment("vi", image), augment("vi", image))
    assert not torch.equal(augment("vi", image), augment("vi", image, seed=1))


def test_all_randomness_comes_from_the_two_generators_and_goes_on_where_they_stand():
    image, generators = torch.rand(6, 1, 16, 16), [torch.Generator().manual_seed(s) for s in (3, 4)]
    photometric("ir", image, *generators)
    states, everybodys = [g.get_state() for g in generators], torch.get_rng_state()
    following = photometric("ir", image, *generators)
    assert torch.equal(torch.get_rng_state(), everybodys)
    torch.manual_seed(99)
    for generator, state in zip(generators, states):
        generator.set_state(state)
    assert torch.equal(photometric("ir", image, *generators), following)


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


def test_one_generator_draws_how_much_the_other_the_noise():
    image = ramps(8, 1)
    a, b = augment("ir", image), augment("ir", image, noise_seed=1)
    assert not torch.equal(a, b) and (a - b).abs().max() < 0.2
    assert (a.mean(dim=(1, 2, 3)) - b.mean(dim=(1, 2, 3))).abs().max() < 0.002
    flat = torch.full((64, 1, 32, 32), 0.5)
    deviation = augment("ir", flat).std(dim=(1, 2, 3))
    assert 0.017 < deviation.max() < 0.022 and deviation.min() < 0.002
    # Neighbours, and the same pixel in two images, have noise of their own.
    noise = (augment("ir", flat) - flat.mean()).flatten(1)
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_the_same_changes():
    image = ramps(8, 3)
    out = photometric("vi", image.cuda(), torch.Generator().manual_seed(0), torch.Generator("cuda").manual_seed(0))
    difference = out.cpu().mean(dim=(1, 2, 3)) - augment("vi", image).mean(dim=(1, 2, 3))
    assert difference.abs().max() < 0.002
