"""Segmentation losses: cases worked by hand, ignored pixels, and batches against single images."""

import math

import pytest
import torch

from losses.segmentation import lovasz_softmax, ohem_cross_entropy

LOSSES = [lovasz_softmax, ohem_cross_entropy]


def logits_of(probabilities):
    """Logits (1, C, 1, N) of one row of pixels whose softmax is ``probabilities``, one list of C values per pixel."""
    return torch.tensor(probabilities, dtype=torch.float64).T.log()[None, :, None]


def row(*classes):
    return torch.tensor([[classes]])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(*shape, count=4, seed=0):
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    sure, other = [1.0, 1e-12], [1e-12, 1.0]
    # Labels 0 0 0 1 1, answers 0 0 1 1 0: class 0 has IoU 2/4, class 1 has 1/3.
    loss = lovasz_softmax(logits_of([sure, sure, other, other, sure]), row(0, 0, 0, 1, 1))
    assert loss.item() == pytest.approx((1 - 2 / 4 + 1 - 1 / 3) / 2)


def test_lovasz_counts_only_the_classes_of_the_label():
    # Class 0 alone is labelled; the pixel wrongly given to class 2 costs class 0 its third pixel and nothing else.
    answers = [[1.0, 1e-12, 1e-12]] * 2 + [[1e-12, 1e-12, 1.0]]
    assert lovasz_softmax(logits_of(answers), row(0, 0, 0)).item() == pytest.approx(1 / 3)


def test_lovasz_by_hand():
    # Probabilities of class 1 are 0.3, 0.6, 0.8 with labels 0, 1, 0.
    loss = lovasz_softmax(logits_of([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]]), row(0, 1, 0))
    # Class 0, errors 0.8 (hit), 0.4 (miss), 0.3 (hit), two hits in all: J = 1 - 1/2, 1 - 1/3, 1 - 0/3.
    class_0 = 0.8 * 1 / 2 + 0.4 * (2 / 3 - 1 / 2) + 0.3 * (1 - 2 / 3)
    # Class 1, the same errors (miss, hit, miss), one hit: J = 1 - 1/2, 1 - 0/2, 1 - 0/3.
    class_1 = 0.8 * 1 / 2 + 0.4 * (1 - 1 / 2)
    assert loss.item() == pytest.approx((class_0 + class_1) / 2)


def test_lovasz_agrees_with_its_definition_by_sets():
    logits, label = noise(1, 4, 5, 6), classes(1, 5, 6, count=3)  # nothing is labelled 3
    probability, truth, losses = logits.softmax(dim=1)[0].flatten(1), label.flatten(), []
    for c in range(3):
        labelled = {i for i in range(30) if truth[i] == c}
        errors = [(1 - p if i in labelled else p).item() for i, p in enumerate(probability[c])]
        loss, before, wrong = 0.0, 0.0, set()
        for i in sorted(range(30), key=lambda i: -errors[i]):
            wrong.add(i)  # predicted as c are then the labelled ones that are right and the others that are wrong
            jaccard = 1 - len(labelled - wrong) / len(labelled | wrong)
            loss, before = loss + errors[i] * (jaccard - before), jaccard
        losses.append(loss)
    assert lovasz_softmax(logits, label).item() == pytest.approx(sum(losses) / 3)


def test_ohem_by_hand():
    # Losses are -log of 0.9, 0.8, 0.6, 0.2; two lie beyond the threshold of 0.7.
    logits, label = logits_of([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.8, 0.2]]), row(0, 0, 1, 1)
    hard = [-math.log(p) for p in (0.2, 0.6, 0.8, 0.9)]
    assert ohem_cross_entropy(logits, label).item() == pytest.approx(sum(hard[:2]) / 2)
    assert ohem_cross_entropy(logits, label, share=0.6).item() == pytest.approx(sum(hard[:3]) / 3)
    assert ohem_cross_entropy(logits, label, threshold=0.1, share=0.5).item() == pytest.approx(sum(hard[:2]) / 2)
    assert ohem_cross_entropy(logits, label, threshold=0.1).item() == pytest.approx(hard[0])
    # With the hardest ignored, the share is one of the three that count.
    assert ohem_cross_entropy(logits, row(0, 0, 1, 255), threshold=0.1, share=1 / 3).item() == pytest.approx(hard[1])


@pytest.mark.parametrize("loss", LOSSES)
def test_optimum(loss):
    label = classes(2, 5, 6)
    perfect = 40 * torch.nn.functional.one_hot(label, 4).permute(0, 3, 1, 2).double()
    assert loss(perfect, label).item() == pytest.approx(0, abs=1e-12)
    assert loss(perfect, (label + 1) % 4) > 0.99
    assert loss(perfect / 40, label) > 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss):
    label = classes(2, 4, 5)
    label[0, 0, :3] = 255
    logits = noise(2, 4, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, label), logits)


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_have_no_influence_and_no_gradient(loss):
    label, logits = classes(1, 6, 7), noise(1, 4, 6, 7)
    label[:, 2:4] = 255
    kept = [0, 1, 4, 5]
    logits.requires_grad_()
    value = loss(logits, label)
    assert value.item() == pytest.approx(loss(logits[:, :, kept], label[:, kept]).item())
    value.backward()
    assert not logits.grad[:, :, 2:4].any() and logits.grad.any()
    # Any number may stand for them.
    unlabelled = torch.where(label == 2, 255, label)
    other = torch.where(unlabelled == 255, 2, unlabelled)
    assert loss(logits, other, ignore=2).item() == pytest.approx(loss(logits, unlabelled).item())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_is_the_mean_of_its_images(loss):
    label, logits = classes(3, 6, 7), noise(3, 4, 6, 7)
    label[0] %= 2  # images differ in the classes they hold
    label[1, :4] = 255
    label[2] = 255  # and may hold none
    alone = [loss(logits[i : i + 1], label[i : i + 1]).item() for i in range(3)]
    assert alone[0] > 0 and alone[2] == 0
    assert loss(logits, label).item() == pytest.approx(sum(alone) / 3)
    logits.requires_grad_()
    loss(logits[2:], label[2:]).backward()
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_left_at_the_door(loss):
    label, logits = classes(2, 30, 40), noise(2, 4, 30, 40).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, label)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.double(), label).item(), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("loss", LOSSES)
def test_a_gpu_gives_the_same_loss(loss):
    label, logits = classes(2, 30, 40), noise(2, 4, 30, 40)
    label[1] = 255
    assert loss(logits.cuda(), label.cuda()).item() == pytest.approx(loss(logits, label).item())
