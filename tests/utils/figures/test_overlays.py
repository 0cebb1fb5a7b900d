"""Overlays: the right pixels in the right places."""

import torch

from utils.figures.overlays import checkerboard, gradient_overlay


def test_checkerboard_alternates():
    board = checkerboard(torch.zeros(1, 64, 96), torch.ones(3, 64, 96), squares=8)
    assert board.shape == (3, 64, 96)
    assert board[0, ::8, ::8].tolist() == [[(i + j) % 2 for j in range(12)] for i in range(8)]
    assert board[:, :8, :8].max() == 0 and board[:, :8, 8:16].min() == 1


def test_gradients_lie_where_the_edge_is():
    edge = torch.zeros(1, 20, 40)
    edge[:, :, 20:] = 1
    overlay = gradient_overlay(edge, torch.zeros(3, 20, 40))
    assert torch.allclose(overlay[:, 10, 20], torch.tensor([0.75, 0.1, 1.0]), atol=1e-3)
    assert overlay[:, 10, 5].max() < 1e-3
