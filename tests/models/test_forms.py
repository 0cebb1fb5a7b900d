"""Alternative implementations of operations: used only inside the context, also when it ends by an exception."""

import pytest
import torch

from models import SuperFusion
from models.deploy import onnx_forms
from models.forms import computed_as, has_forms
from models.layers import blur, gaussian_kernel


@has_forms
def double(x):
    return 2 * x


def test_another_form_counts_inside_only():
    with computed_as({"double": lambda x: x + x + 1, "other": None}):
        assert double(3) == 7
        with computed_as({}):
            assert double(3) == 6
        assert double(3) == 7
    assert double(3) == 6
    with pytest.raises(RuntimeError), computed_as({"double": lambda x: 0}):
        raise RuntimeError
    assert double(3) == 6


def test_the_networks_compute_the_same_in_the_forms_of_onnx():
    torch.manual_seed(0)
    model = SuperFusion().eval()
    ir, vi = torch.rand(1, 1, 40, 48), torch.rand(1, 3, 40, 48)
    with torch.no_grad():
        expected = model(ir, vi)
        with computed_as(onnx_forms.FORMS):
            found = model(ir, vi)
    assert torch.allclose(found.flow_ir2vi, expected.flow_ir2vi, atol=1e-4)
    assert torch.allclose(found.fused, expected.fused, atol=1e-4)


def test_a_form_replaces_an_operation_by_its_name():
    x, kernel = torch.rand(1, 1, 8, 8), gaussian_kernel(3, 1.0)
    with computed_as({"blur": lambda x, kernel, border: x}):
        assert torch.equal(blur(x, kernel, "zero"), x)
    assert not torch.equal(blur(x, kernel, "zero"), x)
