"""Segmentation metrics on cases worked by hand."""

import pytest
import torch

from utils.metrics.segmentation import confusion_matrix, iou_per_class, mean_iou

LABEL = torch.tensor([[0, 0, 1], [1, 1, 255]])
PRED = torch.tensor([[0, 1, 1], [1, 0, 2]])


def test_confusion_matrix_counts_true_classes_by_row_and_ignores():
    matrix = confusion_matrix(PRED, LABEL, num_classes=4)
    expected = torch.zeros(4, 4, dtype=torch.int64)
    expected[0, 0], expected[0, 1], expected[1, 0], expected[1, 1] = 1, 1, 1, 2
    assert matrix.dtype == torch.int64
    assert torch.equal(matrix, expected)


def test_confusion_matrix_rows_are_the_label():
    matrix = confusion_matrix(torch.tensor([2, 2]), torch.tensor([0, 0], dtype=torch.uint8), num_classes=3)
    assert matrix[0, 2] == 2 and matrix.sum() == 2


def test_other_ignore_value():
    matrix = confusion_matrix(torch.tensor([1, 1]), torch.tensor([0, 1]), num_classes=2, ignore=0)
    assert matrix.tolist() == [[0, 0], [0, 1]]


def test_iou_by_hand():
    iou = iou_per_class(confusion_matrix(PRED, LABEL, num_classes=4))
    assert iou[0].item() == pytest.approx(1 / 3)  # 1 hit, 2 labelled, 2 predicted
    assert iou[1].item() == pytest.approx(2 / 4)  # 2 hits, 3 labelled, 3 predicted
    assert iou[2:].isnan().all()  # class 2 is predicted on an ignored pixel only


def test_mean_iou_leaves_out_absent_classes():
    matrix = confusion_matrix(PRED, LABEL, num_classes=4)
    assert mean_iou(matrix).item() == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_a_class_predicted_but_never_labelled_counts_as_zero():
    matrix = confusion_matrix(torch.tensor([0, 2]), torch.tensor([0, 0]), num_classes=3)
    iou = iou_per_class(matrix)
    assert iou[0].item() == 0.5 and iou[1].isnan() and iou[2].item() == 0
    assert mean_iou(matrix).item() == 0.25


def test_nothing_to_score_is_nan():
    assert mean_iou(confusion_matrix(torch.tensor([1]), torch.tensor([255]), num_classes=2)).isnan()


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        ([0, 3], [0, 0], "prediction holds class 3"),
        ([0, 0], [0, -1], "label holds class -1"),
        ([0], [0, 0], "differ in shape"),
    ],
)
def test_bad_input_is_named(pred, label, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(torch.tensor(pred), torch.tensor(label), num_classes=3)
