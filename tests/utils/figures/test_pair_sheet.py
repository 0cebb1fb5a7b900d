"""The sheet of one pair."""

import torch

from utils.figures.pair_sheet import Pictures, pair_sheet


def test_pictures_of_large_images_are_reduced():
    pictures = Pictures(
        torch.rand(3, 20, 2560),
        torch.rand(1, 20, 2560),
        flow_ir2vi=torch.full((2, 20, 2560), 6.0),
        classes=torch.arange(2560).expand(20, -1) // 1280,
    )
    small = pictures.reduced()
    assert small.vi.shape == (3, 10, 1280)
    assert torch.allclose(small.vi.mean(), pictures.vi.mean(), atol=1e-4)
    assert (small.flow_ir2vi == 3).all()
    assert small.classes.shape == (10, 1280) and small.classes.sum() == 10 * 640
    assert small.fused is None
    whole = Pictures(torch.rand(3, 20, 1280), torch.rand(1, 20, 1280))
    assert whole.reduced() is whole


def test_a_sheet_has_a_panel_for_all_that_was_made():
    vi, ir = torch.rand(3, 40, 60), torch.rand(1, 40, 60)
    height = pair_sheet(Pictures(vi, ir, fused=vi)).shape[1]
    everything = Pictures(vi, ir, registered=ir, flow_ir2vi=torch.zeros(2, 40, 60), fused=vi)
    assert pair_sheet(everything).shape == (3, 3 * height, 3 * 60)
