"""The Triton backend of the scan against the reference: on a CUDA device, else in Triton's interpreter on the CPU."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import models.scan
from models.scan import scan_reference

triton = pytest.importorskip("triton", reason="Triton is not installed")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.gpu(or_cpu=True)
needs_cuda = pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")


def load_backend(patch, interpret):
    """A copy of the backend of its own: Triton decides at the decorator whether a kernel is interpreted."""
    if interpret:
        patch.setenv("TRITON_INTERPRET", "1")
    else:
        patch.delenv("TRITON_INTERPRET", raising=False)
    path = Path(models.scan.__file__).with_name("triton_backend.py")
    name = f"triton_backend_{'interpreted' if interpret else 'compiled'}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def probe_kernel():
    @triton.jit
    def probe(out):
        triton.language.store(out, 1.0)

    return probe


@pytest.fixture(scope="module")
def backend():
    with pytest.MonkeyPatch.context() as patch:
        module = load_backend(patch, interpret=DEVICE == "cpu")
        out = torch.zeros(1, device=DEVICE)
        try:
            probe_kernel()[(1,)](out)
        except Exception as error:  # whatever keeps Triton from running here; the backend is not involved
            pytest.skip(f"Triton runs no kernel on {DEVICE} here: {error!r}")
        assert out.item() == 1
        if DEVICE == "cpu":  # several chunks in short lines: every step of the interpreter is slow
            patch.setattr(module, "FORWARD_CHUNK", 4)
            patch.setattr(module, "BACKWARD_CHUNK", 3)
        yield module


def draw(shape, dtype=torch.float32):
    """An image of ``shape`` and weights of both signs with biases for it."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), 0.8 * torch.randn(4, shape[1]), torch.randn(4, shape[1])
    weight[0, 0], weight[1, 0] = -0.7, 0.7
    return [x.to(DEVICE, dtype), weight.to(DEVICE), bias.to(DEVICE)]


def run(function, inputs, grad):
    """The result of ``function`` and the gradients of the inputs for the gradient ``grad`` of the result."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    out = function(*inputs)
    return out.detach(), torch.autograd.grad(out, inputs, grad, materialize_grads=True)


def assert_meets_reference(backend, inputs, grad=None):
    batch, channels, height, width = inputs[0].shape
    grad = torch.randn(batch, 4, channels, height, width, device=DEVICE) if grad is None else grad
    (out, own), (expected, reference) = run(backend.scan, inputs, grad), run(scan_reference, inputs, grad)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    for gradient, wanted in zip(own, reference):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


# Lines of one pixel in either direction; more channels than a program takes, and a number that is no power of two;
# long lines; lines that end with a chunk.
SINGLE = [(1, 2, 1, 6), (1, 2, 6, 1), (1, 1, 1, 1)]
SHAPES = [(2, 3, 7, 5), *SINGLE, (1, 32, 9, 13), (1, 40, 5, 3), (1, 2, 3, 40), (1, 1, 17, 33)]


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference_with_its_gradients(backend, shape):
    assert_meets_reference(backend, draw(shape))


def test_takes_any_memory_layout(backend):
    x, weight, bias = draw((2, 3, 4, 6))
    weight, bias = weight.T.contiguous().T, bias[:, :1].expand(4, 3)
    mixed = torch.randn(2, 5, 3, 4, device=DEVICE)[:, ::2].permute(0, 2, 3, 1)
    assert not mixed.is_contiguous() and not mixed.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn(2, 6, 4, 4, 3, device=DEVICE).permute(0, 2, 4, 3, 1)
    assert_meets_reference(backend, [x.contiguous(memory_format=torch.channels_last), weight, bias], grad)
    assert_meets_reference(backend, [mixed, weight, bias], torch.ones((), device=DEVICE).expand(2, 4, *mixed.shape[1:]))


def test_the_channels_of_a_pixel_lie_together(backend):
    out = backend.scan(*draw((2, 3, 4, 5)))
    assert out.permute(0, 3, 4, 1, 2).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_state_is_float32_whatever_is_stored(backend, dtype):
    x, weight, bias = draw((1, 2, 25, 20), dtype)
    weight = torch.full_like(weight, 0.9)
    weight[:, 1] *= -1
    bits = 8 if dtype == torch.bfloat16 else 11
    # The interpreter cuts bfloat16 off where a device rounds.
    stored = bits - 1 if DEVICE == "cpu" and dtype == torch.bfloat16 else bits
    double = x.double(), weight.double(), bias.double()
    grad = torch.randn(1, 4, 2, 25, 20, device=DEVICE).to(dtype)
    out, own = run(backend.scan, (x, weight, bias), grad)
    exact, reference = run(scan_reference, double, grad.double())
    # One rounding at the end, not one a step, which would add up.
    assert out.dtype == dtype
    assert ((out.double() - exact).abs() <= 2**-stored * exact.abs() + 1e-6).all()
    assert [tensor.dtype for tensor in own] == [dtype, torch.float32, torch.float32]
    assert ((own[0].double() - reference[0]).abs() <= 2**-bits * reference[0].abs() + 1e-5).all()
    # The terms of the weight's sum hold a stored state each, those of the bias's none.
    torch.testing.assert_close(own[1].double(), reference[1], rtol=2**-6, atol=0.1)
    torch.testing.assert_close(own[2].double(), reference[2], rtol=1e-4, atol=1e-4)


def test_no_gradient_where_relu_is_zero(backend):
    weight, bias = torch.full((4, 2), 0.5, device=DEVICE), torch.zeros(4, 2, device=DEVICE)
    x = -torch.rand(1, 2, 3, 4, device=DEVICE)
    grad = torch.ones(1, 4, 2, 3, 4, device=DEVICE)
    out, gradients = run(backend.scan, (x, weight, bias), grad)
    assert not out.any() and not any(tensor.any() for tensor in gradients)
    x[0, 1] = 1
    for_x, for_weight, for_bias = run(backend.scan, (x, weight, bias), grad)[1]
    assert not for_x[0, 0].any() and not for_weight[:, 0].any() and not for_bias[:, 0].any()
    assert (for_x[0, 1] >= 4).all() and (for_weight[:, 1] > 0).all() and (for_bias[:, 1] > 0).all()


def test_nan_stays_nan(backend):
    x, weight, bias = draw((1, 1, 3, 4))
    x[0, 0, 1, 2] = torch.nan
    out = backend.scan(x, weight, bias)
    assert torch.equal(out.isnan(), scan_reference(x, weight, bias).isnan())
    assert out[:, :, 0, 1, 2].isnan().all()


def test_refuses_other_types(backend):
    with pytest.raises(TypeError, match="float64"):
        backend.scan(*(tensor.double() for tensor in draw((1, 1, 2, 2))))


@needs_cuda
def test_is_deterministic(backend):
    x, weight, bias = draw((2, 32, 120, 160))
    inputs = x, weight.clamp(-0.9, 0.9), bias  # larger ones overflow along such lines
    grad = torch.randn(2, 4, 32, 120, 160, device=DEVICE)
    for first, second in zip(run(backend.scan, inputs, grad)[1], run(backend.scan, inputs, grad)[1]):
        assert torch.equal(first, second)


@needs_cuda
def test_counts_beyond_32_bits(backend):
    side = 4100  # the result has 2.15e9 elements
    if torch.cuda.mem_get_info()[0] < 12e9:
        pytest.skip("needs 12 GB of free memory")
    x = torch.randn(1, 32, side, side, device=DEVICE, dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = torch.full((4, 32), 0.5, device=DEVICE), torch.zeros(4, 32, device=DEVICE)
    out = backend.scan(x, weight, bias)
    # Lines do not see each other: the last columns and the last rows can be scanned alone.
    assert torch.equal(out[:, 0::2, ..., -3:], backend.scan(x[..., -3:], weight, bias)[:, 0::2])
    assert torch.equal(out[:, 1::2, :, -3:], backend.scan(x[:, :, -3:], weight, bias)[:, 1::2])


@pytest.mark.parametrize("storage", ["fp32", "fp16", "bf16"])
def test_compiles_for_a_gpu_without_one(monkeypatch, tmp_path, storage):
    """The interpreter accepts more than the compiler does: types that change in a loop, for one."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = load_backend(monkeypatch, interpret=False)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)

    def build(kernel, signature, constants):
        source = triton.compiler.ASTSource(kernel, signature, constants)
        return triton.compile(source, target=target, options={"num_warps": 1})

    try:
        build(probe_kernel(), {"out": "*fp32"}, {})
    except Exception as error:  # whatever keeps Triton from compiling here; the backend is not involved
        pytest.skip(f"Triton compiles nothing for an NVIDIA GPU here: {error!r}")
    kernels = {
        module._forward: ({"x": storage, "weight": "fp32", "bias": "fp32", "out": storage}, module.FORWARD_CHUNK),
        module._backward: (
            {"out": storage, "grad": storage, "weight": "fp32", "grad_x": "fp32", "sums": "fp32"},
            module.BACKWARD_CHUNK,
        ),
    }
    for kernel, (pointers, chunk) in kernels.items():
        constants = {"CHANNELS": 32, "BLOCK_LINES": 1, "BLOCK_CHANNELS": 32, "CHUNK": chunk}
        signature = {name: f"*{kind}" for name, kind in pointers.items()}
        signature |= dict.fromkeys(module.SIZES, "i32") | dict.fromkeys(constants, "constexpr")
        assert build(kernel, signature, constants).asm["cubin"]
