"""docs/teaser.py: panels of one size, four in a row; and the picture that is shipped."""

from pathlib import Path

import torch

from docs.teaser import PANEL, fitted, row
from models import Pipeline, SuperFusion

ROOT = Path(__file__).resolve().parents[2]


def test_a_picture_of_another_shape_has_white_beside_it():
    panel = fitted(torch.zeros(3, 256, 320))
    width = round(320 * PANEL[0] / 256)
    left = (PANEL[1] - width) // 2
    assert panel.shape == (3, *PANEL)
    assert (panel[:, :, :left] == 1).all() and (panel[:, :, left + width :] == 1).all()
    assert panel[:, :, left : left + width].max() == 0


def test_a_row_shows_infrared_visible_registered_and_fused():
    ir, vi = torch.zeros(1, 32, 48), torch.full((3, 48, 64), 0.5)
    picture = row(Pipeline(SuperFusion(), registrar="none"), ir, vi, "as given")
    panels = picture[:, -PANEL[0] :].chunk(4, dim=2)
    assert [panel.shape for panel in panels] == [(3, *PANEL)] * 4
    assert torch.equal(panels[0], fitted(ir.expand(3, -1, -1)))
    assert torch.equal(panels[1], fitted(vi))


def test_the_teaser_is_small():
    assert (ROOT / "docs" / "teaser.jpg").stat().st_size <= 400_000
