"""Losses on segmentations: Lovasz-softmax, and cross-entropy with online hard example mining.

``logits`` are ``(B, C, H, W)``; ``label`` ``(B, H, W)`` int64 holds classes 0..C-1, or ``ignore`` for pixels that do
not count. The loss of a batch is the mean of its images' losses; an image without a counted pixel has loss 0.
Everything is computed in at least float32, also under autocast.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def lovasz_softmax(logits: Tensor, label: Tensor, ignore: int = 255) -> Tensor:
    """Compute Lovasz-softmax, averaged over the classes labelled in an image (Berman et al., CVPR 2018, Eq. 11).

    For class c with probabilities p, the errors are ``m_i = 1 - p_i`` where the label is c and ``p_i`` elsewhere, in
    descending order. The loss is ``sum_i m_i (J_i - J_{i-1})``, where J_i is 1 - IoU if exactly the i pixels of largest
    error were wrong, and J_0 = 0. For probabilities 0 and 1 it equals 1 - IoU. Unlike this function,
    :func:`kornia.losses.lovasz_softmax_loss` counts classes that are not in the image and has no ignore label.
    """
    batch, classes = logits.shape[:2]
    probability = _at_least_float32(logits).softmax(dim=1).flatten(2)
    label = label.flatten(1)[:, None]
    counted = label != ignore
    truth = (label == torch.arange(classes, device=label.device)[None, :, None]) & counted
    present = truth.any(dim=2)

    # One row per image and labelled class. Ignored pixels come last, where J is 1 already, so their weight is 0.
    errors = torch.where(counted, (truth.to(probability) - probability).abs(), -1)[present]
    errors, order = errors.sort(dim=1, descending=True)
    hits = truth[present].gather(1, order).to(errors)
    total = hits.sum(dim=1, keepdim=True)
    jaccard = 1 - (total - hits.cumsum(dim=1)) / (total + (1 - hits).cumsum(dim=1))
    losses = (errors * jaccard.diff(dim=1, prepend=torch.zeros_like(total))).sum(dim=1)
    return (losses / present.sum(dim=1, keepdim=True).expand_as(present)[present]).sum() / batch


def ohem_cross_entropy(
    logits: Tensor, label: Tensor, threshold: float = 0.7, share: float = 1 / 16, ignore: int = 255
) -> Tensor:
    """Compute the cross-entropy over hard pixels (OHEM, Shrivastava et al., CVPR 2016), as BiSeNet and SeAFusion do.

    The loss is ``mean_{i in S} -log p_i``, where p_i is the probability of pixel i's label and S contains the pixels
    with ``p_i < threshold``, but at least a ``share`` of the image's counted pixels, those with the smallest p_i.
    """
    losses = F.cross_entropy(_at_least_float32(logits), label, ignore_index=ignore, reduction="none").flatten(1)
    # Ignored pixels have loss 0 and come last, beyond the share of the counted ones.
    losses = losses.sort(dim=1, descending=True).values
    fewest = (share * (label != ignore).flatten(1).sum(dim=1, keepdim=True)).ceil()
    hard = (losses > -math.log(threshold)) | (torch.arange(losses.shape[1], device=losses.device) < fewest)
    return ((losses * hard).sum(dim=1) / hard.sum(dim=1).clamp(min=1)).mean()


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
