"""Export a checkpoint to ONNX, for images of any size, and check the file against PyTorch with onnxruntime.

python export.py                                              the shipped weights to superfusion.onnx
python export.py --checkpoint FILE --part fuse --out fuse.onnx
python export.py --check 640x480 200x33

Inputs: ir (B, 1, H, W) and vi (B, 3, H, W), float32 in [0, 1]. Outputs: registered (B, 1, H, W), flow_ir2vi
(B, 2, H, W), valid (B, 1, H, W) and fused (B, 3, H, W), as models/results.py defines them. --part register omits fused;
--part fuse takes aligned images and returns only fused. B, H and W are free, H and W at least 32 (the file does not
check that). The file is written only if it agrees with PyTorch at the sizes of --check.
"""

import argparse
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from datasets.sample import SamplePairs
from models import Pipeline, SuperFusion, load_model
from models.deploy import onnx_forms
from models.forms import computed_as
from models.results import SMALLEST_SIDE
from models.warping import resize
from models.weights import SHIPPED
from utils.arguments import image_size
from utils.errors import UserError, run
from utils.files.writing import check_apart, check_writable, write_bytes

PACKAGES = ("onnx", "onnxruntime", "onnxscript")

OUTPUTS = {
    "both": ("registered", "flow_ir2vi", "valid", "fused"),
    "register": ("registered", "flow_ir2vi", "valid"),
    "fuse": ("fused",),
}

# The lowest opset whose Resize supports antialiasing.
OPSET = 18

# The largest allowed difference from PyTorch: for images an eighth of an 8-bit level, for the flow a thousandth of a
# pixel, for `valid` the share of pixels that differ, since rounding decides at the border.
TOLERANCES = {"registered": 5e-4, "flow_ir2vi": 1e-3, "valid": 1e-3, "fused": 5e-4}


class Part(nn.Module):
    """A part of the model (a key of :data:`OUTPUTS`) as a module that returns a tuple."""

    def __init__(self, model: SuperFusion, part: str):
        super().__init__()
        self.model, self.part = model, part

    def forward(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, ...]:
        """Map ``ir`` ``(B, 1, H, W)`` and ``vi`` ``(B, 3, H, W)`` to the part's :data:`OUTPUTS`, in their order."""
        if self.part == "fuse":
            return (self.model.fuse(ir, vi),)
        result = self.model(ir, vi) if self.part == "both" else self.model.register(ir, vi)
        return tuple(getattr(result, name) for name in OUTPUTS[self.part])


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="our .safetensors or the authors' .pth")
    parser.add_argument("--out", type=Path, default=Path("superfusion.onnx"), help="default: superfusion.onnx")
    parser.add_argument("--part", choices=tuple(OUTPUTS), default="both")
    parser.add_argument(
        "--check",
        type=image_size(SMALLEST_SIDE),
        nargs="+",
        default=[(128, 96), (117, 91)],
        metavar="WxH",
        help="sizes at which the file must agree with PyTorch (default: 128x96 117x91)",
    )
    return parser.parse_args(argv)


def check_packages() -> None:
    """Raise UserError if a package that is required only by this script is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"export.py also needs {', '.join(missing)}: pip install -r requirements-export.txt")


def to_onnx(model: SuperFusion, part: str) -> bytes:
    """Export a ``part`` of ``model`` (in eval mode, on the CPU) to an ONNX file with free batch, height and width."""
    import onnx_ir.passes.common
    from onnxscript import opset18 as op

    def round_to_int(number, ndigits=None):
        return op.Cast(op.Round(number), to=7)  # int64

    inputs = torch.zeros(2, 1, 96, 128), torch.zeros(2, 3, 96, 128)
    axes = ({0: "batch", 2: "height", 3: "width"},) * len(inputs)
    free = tuple(dict.fromkeys(names, torch.export.Dim.DYNAMIC) for names in axes)
    with computed_as(onnx_forms.FORMS), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's internals
        program = torch.export.export(Part(model, part), inputs, dynamic_shapes=free, strict=False)
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=("ir", "vi"),
            output_names=OUTPUTS[part],
            dynamic_shapes=axes,
            custom_translation_table={round: round_to_int},  # of sizes; missing in PyTorch's table
            verbose=False,
        )
    # The metadata of the operations contains paths of this machine.
    onnx_ir.passes.common.ClearMetadataAndDocStringPass()(converted.model)
    return converted.model_proto.SerializeToString()


def sample_pair(index: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return an embedded pair resized to ``size``: the deformed IR ``(1, 1, H, W)`` and VI ``(1, 3, H, W)``."""
    pairs = SamplePairs()
    pair = pairs[index % len(pairs)]
    ir, vi = (resize(image[None], size).clamp(0, 1) for image in (pair.ir_warp, pair.vi))
    return ir, vi


def open_session(file: bytes):
    """Open an ONNX file in onnxruntime, on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def compare(session, pipeline: Pipeline, part: str, ir: Tensor, vi: Tensor) -> dict[str, float]:
    """Compare the outputs of an ONNX session with those of ``pipeline``, whose registrar is the matcher.

    Returns the largest absolute difference of each output; for ``valid`` the share of pixels that differ. NaN and
    different shapes count as infinite.
    """
    outputs = session.run(OUTPUTS[part], {"ir": ir.numpy(), "vi": vi.numpy()})
    if part == "fuse":
        expected = (pipeline.fuse(ir, vi),)
    else:
        result = pipeline(ir, vi) if part == "both" else pipeline.register(ir, vi)
        expected = tuple(getattr(result, name) for name in OUTPUTS[part])
    differences = {}
    for name, ours, theirs in zip(OUTPUTS[part], expected, map(torch.from_numpy, outputs)):
        difference = (ours - theirs).abs() if ours.shape == theirs.shape else torch.tensor(torch.inf)
        differences[name] = (
            (difference.mean() if name == "valid" else difference.max()).nan_to_num(nan=torch.inf).item()
        )
    return differences


def check(file: bytes, model: SuperFusion, part: str, sizes: list[tuple[int, int]]) -> None:
    """Print a table of the differences at ``sizes`` (width, height).

    Raises UserError if a difference exceeds :data:`TOLERANCES`.
    """
    print("| largest difference from PyTorch | " + " | ".join(OUTPUTS[part]) + " |")
    print("|---|" + "---:|" * len(OUTPUTS[part]))
    session, pipeline, problems = open_session(file), Pipeline(model, "matcher", max_side=None), []
    for index, size in enumerate(sizes):
        width, height = size
        differences = compare(session, pipeline, part, *sample_pair(index, (height, width)))
        row = f"{width}x{height}"
        print(f"| {row} | " + " | ".join(f"{value:.1e}" for value in differences.values()) + " |")
        problems += [
            f"{name} at {row} by {value:.1e} (limit {TOLERANCES[name]:.0e})"
            for name, value in differences.items()
            if value > TOLERANCES[name]
        ]
    print("| limit | " + " | ".join(f"{TOLERANCES[name]:.0e}" for name in OUTPUTS[part]) + " |")
    if problems:
        raise UserError(f"not written, since the exported model differs from PyTorch: {'; '.join(problems)}")


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    check_packages()
    model = load_model(args.checkpoint)
    if args.out.is_dir():
        raise UserError(f"{args.out}: is a folder; give --out a file name")
    check_apart([args.checkpoint], files=[args.out])
    check_writable(args.out.parent)
    start = time.perf_counter()
    file = to_onnx(model, args.part)
    print(f"exported in {time.perf_counter() - start:.0f} s, {len(file) / 2**20:.1f} MiB; batch, height and width free")
    check(file, model, args.part, args.check)
    write_bytes(args.out, file)
    print(f"written to {args.out}")


if __name__ == "__main__":
    run(main)
