"""The export to ONNX: its implementations of operations, the file at sizes other than the export's, and errors."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

import export
from models import Pipeline, SuperFusion, consensus, layers, load_model
from models.build import MATCHERS
from models.correlation import cost_volume
from models.dense_matcher import FlowEstimator, FlowRefiner
from models.deploy import onnx_forms
from models.layers import ConvBlock
from models.scan import scan_reference
from models.warping import resize_flow, warp
from models.weights import SHIPPED, save_checkpoint
from utils.errors import UserError

pytestmark = pytest.mark.skipif(not all(map(find_spec, export.PACKAGES)), reason="packages of the export are missing")


class OneScale(nn.Module):
    """A matcher of the parts of DenseMatcher, at 1/2 of the resolution."""

    def __init__(self):
        super().__init__()
        self.architecture = {}
        self.pyramid = nn.ModuleDict({side: ConvBlock(3, 8, stride=2, norm="instance") for side in ("ir", "vi")})
        self.estimate = FlowEstimator(8, 2, "cosine", 1, 1.0)
        self.refine = FlowRefiner(8)

    def forward(self, ir, vi):
        src, tgt = self.pyramid["ir"](ir), self.pyramid["vi"](vi)
        flow = self.estimate(src, tgt)
        return {"ir2vi": [resize_flow(self.refine(warp(src, flow), tgt, flow), vi.shape[-2:])]}


@pytest.fixture(scope="module", autouse=True)
def small():
    """A smaller matcher and fewer rounds, since an export takes as long as its graph has operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MATCHERS, "OneScale", OneScale)
        patch.setattr(consensus, "_ITERATIONS", ((30.0, 0.0), (3.0, 0.1)))
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained model with flows of some pixels."""
    torch.manual_seed(0)
    model = SuperFusion(OneScale(), passes=(0.5,))
    with torch.no_grad():
        model.matcher.refine.estimate[-1][0].weight.mul_(300)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_checkpoint(path, model)
    return path


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_model(checkpoint)


@pytest.fixture(scope="module")
def file(model):
    return export.to_onnx(model, "both")


@pytest.fixture(scope="module")
def session(file):
    return export.open_session(file)


@pytest.fixture(scope="module")
def images():
    """IR ``(2, 1, 96, 128)`` and VI ``(2, 3, 96, 128)`` of two pairs."""
    return [torch.cat(both) for both in zip(*(export.sample_pair(index, (96, 128)) for index in range(2)))]


@pytest.mark.parametrize("border", ["zero", "replicate"])
def test_blur_is_the_usual_one(border):
    x, kernel = torch.rand(2, 5, 20, 31), layers.gaussian_kernel(9, 2.0)
    torch.testing.assert_close(onnx_forms.blur(x, kernel, border), layers.blur(x, kernel, border))


@pytest.mark.parametrize("options", [("cosine", 1, 1.0), ("squared", 4, 3.0)])
def test_the_cost_volume_is_the_usual_one(options):
    src, tgt = torch.rand(2, 2, 6, 18, 35).unbind()
    torch.testing.assert_close(
        onnx_forms.cost_volume(src, tgt, *options), cost_volume(src, tgt, *options), rtol=1e-4, atol=1e-5
    )


def test_the_scan_is_the_usual_one():
    x, weight, bias = torch.randn(2, 3, 7, 9), torch.randn(4, 3), torch.randn(4, 3)
    torch.testing.assert_close(onnx_forms.scan(x, weight, bias), scan_reference(x, weight, bias))


@pytest.mark.slow
def test_the_file_fixes_no_size_and_keeps_the_loop(file):
    import onnx

    model = onnx.load_from_string(file)
    onnx.checker.check_model(model)
    for values, channels in (
        (model.graph.input, {"ir": 1, "vi": 3}),
        (model.graph.output, {"registered": 1, "flow_ir2vi": 2, "valid": 1, "fused": 3}),
    ):
        shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        assert shapes == {name: ["batch", number, "height", "width"] for name, number in channels.items()}
    # A loop that were written out would have grown with the size.
    assert "Scan" in {node.op_type for node in model.graph.node}


@pytest.mark.slow
def test_the_file_tells_nothing_of_this_machine(file):
    assert str(SHIPPED.parents[1]).encode() not in file


@pytest.mark.slow
@pytest.mark.parametrize("batch, height, width", [(1, 91, 100), (2, 96, 77), (1, 32, 33)])
def test_the_file_agrees_with_the_model(model, session, images, batch, height, width):
    ir, vi = (image[:batch, :, :height, :width].contiguous() for image in images)
    with torch.inference_mode():
        assert model.register(ir, vi).flow_ir2vi.abs().max() > 1
    differences = export.compare(session, Pipeline(model, "matcher", max_side=None), "both", ir, vi)
    assert differences.keys() == export.TOLERANCES.keys()
    assert differences["valid"] <= 1e-3
    assert max(differences[name] for name in ("registered", "flow_ir2vi", "fused")) < 2e-4


def run_export(*arguments):
    export.main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_a_checked_file_is_written(checkpoint, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "to_onnx", lambda model, part: file)
    out = tmp_path / "new" / "model.onnx"
    run_export("--checkpoint", checkpoint, "--out", out, "--check", "48x40", "35x33")
    assert out.read_bytes() == file
    printed = capsys.readouterr().out
    assert "| 48x40 |" in printed and "| 35x33 |" in printed


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(file, tmp_path, monkeypatch):
    torch.manual_seed(1)
    save_checkpoint(tmp_path / "other.safetensors", SuperFusion())
    monkeypatch.setattr(export, "to_onnx", lambda model, part: file)
    with pytest.raises(UserError, match="not written, .*flow_ir2vi at 48x40 by"):
        run_export("--checkpoint", tmp_path / "other.safetensors", "--out", tmp_path / "a.onnx", "--check", "48x40")
    assert [path.name for path in tmp_path.iterdir()] == ["other.safetensors"]


def test_refusals(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "to_onnx", lambda model, part: pytest.fail("went on"))
    with pytest.raises(UserError, match="none.pth: no such checkpoint file"):
        run_export("--checkpoint", "none.pth")
    with pytest.raises(UserError, match="cannot be written"):
        run_export("--checkpoint", checkpoint, "--out", checkpoint / "model.onnx")
    with pytest.raises(UserError, match="is an input, .* choose another --out"):
        run_export("--checkpoint", checkpoint, "--out", checkpoint)
    with pytest.raises(UserError, match="is a folder"):
        run_export("--checkpoint", checkpoint, "--out", tmp_path)
    for wrong in ("96", "31x96", "axb"):
        with pytest.raises(SystemExit) as ended:
            run_export("--check", wrong)
        assert ended.value.code == 2
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match="needs onnxscript: pip install -r requirements-export.txt"):
        run_export("--checkpoint", checkpoint)
