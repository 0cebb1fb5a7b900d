"""Images of many sizes in one flat memory on the training device, and samples of them, all images of a batch at once.

Every image is stored at its size and halved, as in a mipmap: a crop that is reduced by more than the square root of two
is sampled from the half, without aliasing. Nothing here waits for the device: which images are sampled, and where, are
tensors on it.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 2


class PackedImages:
    """Images of four 8-bit channels, each at :data:`LEVELS` sizes, as 32-bit words in one vector on ``device``.

    ``images`` holds, for each image, its levels from large to small, uint8 ``(H, W, 4)``; ``labels``, if given, a class
    map for each, uint8 ``(H, W)``, of the size of level 0.
    """

    def __init__(
        self,
        images: Sequence[Sequence[Tensor]],
        device: torch.device | str,
        labels: Sequence[Tensor] | None = None,
    ):
        levels = list(itertools.chain.from_iterable(images))
        self.words = _flat([level.contiguous().view(torch.int32) for level in levels]).to(device)
        self.starts = _starts(levels).view(-1, LEVELS).to(device)
        sizes = [(level.shape[1], level.shape[0]) for level in levels]
        self.sizes = torch.tensor(sizes, device=device).view(-1, LEVELS, 2)  # (width, height) of each image and level
        if labels is not None:
            self.classes = _flat(labels).to(device)
            self.class_starts = _starts(labels).to(device)

    def sample(self, index: Tensor, level: Tensor, positions: Tensor) -> Tensor:
        """Read images ``index`` ``(B,)`` at ``level`` ``(B,)``, bilinearly, at ``positions`` ``(B, 2, h, w)``.

        Positions are in the pixels of that level; beyond the frame the nearest edge pixel is read. Returns
        ``(B, 4, h, w)`` in [0, 1].
        """
        start, last = self.starts[index, level].view(-1, 1, 1), self._last(index, level)
        positions = torch.minimum(positions.clamp(min=0), last)
        corner = positions.floor()
        across, down = (positions - corner).unsqueeze(-1).unbind(dim=1)
        next_corner = torch.minimum(corner + 1, last)
        (left, upper), (right, lower) = (points.long().unbind(dim=1) for points in (corner, next_corner))
        width = self.sizes[index, level, 0].view(-1, 1, 1)

        def pixels(x: Tensor, y: Tensor) -> Tensor:
            words = self.words[start + y * width + x]
            return words.unsqueeze(-1).view(torch.uint8).float()

        above = torch.lerp(pixels(left, upper), pixels(right, upper), across)
        below = torch.lerp(pixels(left, lower), pixels(right, lower), across)
        return (torch.lerp(above, below, down) / 255).permute(0, 3, 1, 2)

    def classes_at(self, index: Tensor, positions: Tensor) -> Tensor:
        """Read the class of the nearest pixel at ``positions`` ``(B, 2, h, w)`` of level 0; ``(B, h, w)`` int64."""
        zero = torch.zeros_like(index)
        nearest = torch.minimum(positions.round().clamp(min=0), self._last(index, zero)).long()
        x, y = nearest.unbind(dim=1)
        width = self.sizes[index, 0, 0].view(-1, 1, 1)
        return self.classes[self.class_starts[index].view(-1, 1, 1) + y * width + x].long()

    def positions(self, index: Tensor, level: Tensor, whole: Tensor, points: Tensor) -> Tensor:
        """Convert ``points`` ``(B, 2, h, w)`` in images of size ``whole`` ``(B, 2)`` to pixels of their ``level``.

        The edges of the frame coincide, as in :func:`models.warping.resize`.
        """
        ratio = (self.sizes[index, level] / whole).view(-1, 2, 1, 1)
        return (points + 0.5) * ratio - 0.5

    def _last(self, index: Tensor, level: Tensor) -> Tensor:
        return (self.sizes[index, level] - 1).view(-1, 2, 1, 1).float()


def _flat(arrays: Sequence[Tensor]) -> Tensor:
    return torch.cat([array.reshape(-1) for array in arrays])


def _starts(arrays: Sequence[Tensor]) -> Tensor:
    counts = torch.tensor([array.shape[0] * array.shape[1] for array in arrays])
    return counts.cumsum(0) - counts
