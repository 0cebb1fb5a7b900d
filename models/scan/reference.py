"""The four-directional ReLU scan (an IRNN) in plain torch: the reference for all backends."""

import torch
from torch import Tensor

DIRECTIONS = ("up", "right", "down", "left")


def scan_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scan ``x`` ``(B, C, H, W)`` in four directions; returns ``(B, 4, C, H, W)`` in the order of ``DIRECTIONS``.

    Along every line x_0 .. x_{L-1} in the direction of travel, per channel with its ``weight`` and ``bias``
    (both ``(4, C)``): ``h_0 = relu(x_0)`` and ``h_i = relu(weight h_{i-1} + bias + x_i)``. "up" travels from the
    bottom row to the top one, "left" from the right column to the left one. The cost is linear in the number of pixels.
    The result has the dtype of ``x``, the state along a line at least float32.
    """
    out_type, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
    up = _scan_rows(x.flip(2), weight[0], bias[0]).flip(2)
    right = _scan_rows(x.transpose(2, 3), weight[1], bias[1]).transpose(2, 3)
    down = _scan_rows(x, weight[2], bias[2])
    left = _scan_rows(x.flip(3).transpose(2, 3), weight[3], bias[3]).transpose(2, 3).flip(3)
    return torch.stack([direction.to(out_type) for direction in (up, right, down, left)], dim=1)


def _scan_rows(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    weight, bias = weight.view(1, -1, 1), bias.view(1, -1, 1)
    first, *rest = x.unbind(dim=2)
    rows = [first.relu()]
    for row in rest:
        rows.append((weight * rows[-1] + bias + row).relu())
    return torch.stack(rows, dim=2)
