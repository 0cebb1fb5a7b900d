"""Segmentation quality: confusion matrix, IoU per class, mean IoU.

For several images, sum their matrices and score the sum, instead of averaging the images' scores.
"""

import torch
from torch import Tensor


def confusion_matrix(pred: Tensor, label: Tensor, num_classes: int, ignore: int = 255) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns): ``(num_classes, num_classes)`` int64.

    ``pred`` and ``label`` are integers in 0..num_classes - 1, of one shape; pixels labelled ``ignore`` do not count.
    """
    if pred.shape != label.shape:
        raise ValueError(f"prediction {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")
    counted = label != ignore
    pred, label = pred[counted].long(), label[counted].long()
    for name, classes in (("prediction", pred), ("label", label)):
        outside = classes[(classes < 0) | (classes >= num_classes)]
        if outside.numel():
            raise ValueError(f"{name} holds class {outside[0].item()}, expected 0..{num_classes - 1}")
    pairs = torch.bincount(label * num_classes + pred, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def iou_per_class(matrix: Tensor) -> Tensor:
    """Compute the IoU ``(C,)`` float64 in [0, 1]; NaN for a class that is neither labelled nor predicted."""
    hits = matrix.diagonal().double()
    return hits / (matrix.sum(0) + matrix.sum(1) - hits)


def mean_iou(matrix: Tensor) -> Tensor:
    """Average the IoU (0-d float64) over the classes that are labelled or predicted; NaN if there are none."""
    return iou_per_class(matrix).nanmean()
