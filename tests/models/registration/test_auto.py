"""The automatic choice of a registrar: structural where it agrees, the matcher for the other pairs of a batch."""

import torch

from datasets.toy import toy_scene
from models.registration.auto import AutoRegistrar
from models.registration.structural import StructuralRegistrar
from models.results import Registration
from models.warping import warp


def shifted_by_nine(ir, vi):
    assert len(ir) == len(vi)
    return Registration.by_flow(ir, torch.full((len(ir), 2, *ir.shape[-2:]), 9.0))


def test_the_matcher_takes_over_where_nothing_agrees():
    scene = toy_scene(0, 96, 128)
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 96, 128)
    noise = torch.rand(1, *scene.ir.shape, generator=torch.Generator().manual_seed(0))
    ir, vi = torch.cat((warp(scene.ir[None], flow), noise)), scene.vi.expand(2, -1, -1, -1)
    structural = StructuralRegistrar().register(ir, vi)
    assert structural.agreement[0] > 0.1 > 0.012 > structural.agreement[1]
    result = AutoRegistrar(shifted_by_nine).register(ir, vi)
    assert torch.equal(result.flow_ir2vi[0], structural.flow_ir2vi[0])
    assert (result.flow_ir2vi[1] == 9).all()
    for name in ("registered", "valid"):
        expected = getattr(Registration.by_flow(ir, result.flow_ir2vi), name)
        assert torch.equal(getattr(result, name), expected)


def test_the_matcher_is_left_alone_where_all_agrees():
    scene = toy_scene(1, 96, 128)
    result = AutoRegistrar(lambda *_: 1 / 0).register(scene.ir[None], scene.vi[None])
    assert result.flow_ir2vi.abs().mean() < 1


def test_flat_images_go_to_the_matcher():
    flat = torch.full((1, 1, 64, 64), 0.5)
    assert (AutoRegistrar(shifted_by_nine).register(flat, flat).flow_ir2vi == 9).all()
