"""Sheets: captions, crops and boxes in the right places."""

import pytest
import torch

from utils.figures.sheets import comparison, salient_boxes, sheet


def test_a_sheet_fills_up_its_last_row():
    cells = sheet({"a": torch.zeros(1, 20, 40), "b": torch.ones(3, 20, 40)}, columns=3)
    assert cells.shape == (3, 46, 120) and cells[:, 26:, :40].max() == 0 and cells[:, :, 80:].min() == 1


def test_comparison_shows_crops_enlarged():
    image = torch.zeros(3, 60, 80)
    image[:, 30:40, 20:40] = 0.8
    original = image.clone()
    both = comparison({"one": image, "two": image[:1]}, [(20, 30, 20, 10), (0, 0, 10, 10)])
    assert torch.equal(image, original)
    height, width = both.shape[1:]
    crops = int((80 - 4) / (2 + 1))
    assert (height, width) == (26 + 60 + 4 + crops + 8, 2 * (80 + 8))
    top, left = 26 + 60 + 4, 4
    assert torch.allclose(both[:, top + crops // 2, left + crops], torch.full((3,), 0.8), atol=1e-3)
    assert torch.allclose(both[:, top + 1, left + 10], torch.tensor([0.95, 0.15, 0.15]))
    assert torch.allclose(both[:, 26 + 30, left + 25], torch.tensor([0.95, 0.15, 0.15]))
    assert both[:, top + crops // 2, left + 2 * crops + 4 + crops // 2].max() == 0
    assert torch.equal(both[:, 26:, :88], both[:, 26:, 88:])


@pytest.mark.parametrize("box", [(70, 0, 20, 10), (0, -1, 10, 10), (0, 0, 0, 10)])
def test_a_box_outside_is_refused(box):
    with pytest.raises(ValueError, match="does not lie inside images of 80x60"):
        comparison({"one": torch.zeros(3, 60, 80)}, [box])


def test_salient_boxes_lie_on_the_strongest_gradients_and_apart():
    ir, vi = torch.zeros(1, 40, 80), torch.zeros(3, 40, 80)
    ir[:, 5:9, 60:70] = 1
    vi[:, 28:34, 10:18] = 1
    (l1, t1, w, h), (l2, t2, _, _) = salient_boxes(ir, vi)
    assert (w, h) == (20, 10)
    assert l1 <= 62 <= l1 + w and t1 <= 7 <= t1 + h
    assert l2 <= 14 <= l2 + w and t2 <= 31 <= t2 + h
    same = salient_boxes(ir, ir)
    assert abs(same[0][0] - same[1][0]) >= w or abs(same[0][1] - same[1][1]) >= h
