"""Register, fuse and segment infrared and visible images: two files, two folders, or a test set.

python test.py                                                   the embedded sample scenes
python test.py --ir thermal.tif --vi visible.jpg                 two files
python test.py --ir thermal/ --vi visible/                       two folders, pairs by file name
python test.py --dataset_name MSRS --data_root DIR               a test set, errors in pixels reported
python test.py --mode Seg --segmenter FILE ...                   of any of these, the classes of the fused image
"""

import argparse
import io
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from datasets.paired import Pair, PairedFolders, test_set
from datasets.sample import SampleScenes
from evaluate import evaluate, metric_names, open_results
from models import BiSeNet, load_model, load_segmenter
from models.bisenet import CLASSES
from models.deploy.inference import PRECISIONS, SMALLEST_TILE, OptimizedSuperFusion
from models.registration.auto import AutoRegistrar
from models.registration.structural import StructuralRegistrar
from models.superfusion import unregistered
from models.warping import content_mask, resize_flow, warp
from utils.colour import luminance
from utils.device import pick_device, warn_of_slow_bfloat16
from utils.errors import UserError, run
from utils.evaluation.protocols import as_columns, score, summarise
from utils.evaluation.segmentation import class_sheet, figures, gray, segment, write_class_map
from utils.figures.plots import checkerboard, flow_colours, gradient_overlay, sheet, warped_grid
from utils.files.images import check_writable, write_bytes, write_image
from utils.files.results import means, write_csv, write_json
from utils.memory import keep_freed_memory
from utils.metrics.segmentation import confusion_matrix

Registrar = Callable[[Tensor, Tensor], dict[str, Tensor]]
Fuser = Callable[[Tensor, Tensor], Tensor]

# Which figures of a protocol the last lines show; errors are in pixels.
SHOWN = {
    "official": ("EPE", "RE", "EPE_p95"),
    "band_free": ("EPE", "RE", "EPE_p95"),
    "alignment": ("align_MI", "align_NCC"),
}

# What evaluate.py scores of a mode's output.
WRITTEN = {"Reg": ("registered",), "Fusion": ("fused",), "Reg&Fusion": ("fused", "registered"), "Seg": ("fused",)}

# How a sheet calls an image.
CAPTIONS = {"vi": "visible (VI)", "ir": "infrared (IR) as given", "fused": "fused"}

# Pixels along the border of the registered image in which the saved fused image keeps the visible one, as many as the
# fusion's convolutions carry the border inwards; over twice the second number it then turns into the fused image.
BORDER, FADE = 4, 6

# The longer side of a panel of a sheet, in pixels.
PANEL_SIDE = 1280

SHIPPED = Path(__file__).parent / "checkpoints" / "superfusion.safetensors"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--mode", choices=tuple(WRITTEN), default="Reg&Fusion")
    parser.add_argument("--dataset_name", help="a test set below --data_root, such as MSRS or RoadScene")
    parser.add_argument("--data_root", type=Path, help="holds NAME/test/{ir,vi,...} or the authors' test/NAME/")
    parser.add_argument("--ir", type=Path, help="an infrared image, or a folder of them")
    parser.add_argument("--vi", type=Path, help="a visible image, or a folder of them")
    parser.add_argument("--label", type=Path, help="mode Seg: a class map (8-bit PNG) of --vi, or a folder of them")
    parser.add_argument("--segmenter", type=Path, help="mode Seg: BiSeNet weights, ours or SeAFusion's .pth")
    parser.add_argument(
        "--seg_input", choices=tuple(CAPTIONS), help="mode Seg: what to segment (default: the aligned pair fused)"
    )
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="our .safetensors or the authors' .pth")
    parser.add_argument(
        "--registrar",
        choices=("auto", "matcher", "structural", "none"),
        default="auto",
        help="matcher: the network; structural: a classical fit of an affine map and a smooth displacement, without "
        "training; auto: structural, but the matcher where that fails; none: leave IR as it is",
    )
    parser.add_argument("--save_dir", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="float32",
        help="of the convolutions; bfloat16 (float16 on older GPUs) is faster where the hardware has it",
    )
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the convolutions: slow start, then faster"
    )
    parser.add_argument(
        "--max_side",
        type=int,
        default=1024,
        metavar="N",
        help="find the flow of larger images at this longer side, fuse them in tiles of it (default: 1024)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pairs")
    parser.add_argument("--save_flow", action="store_true", help="also write SAVE_DIR/flow/NAME.npz")
    parser.add_argument(
        "--metrics", help="also score fused images against VI and aligned IR: all, paper (the six) or MI,SSIM,..."
    )
    args = parser.parse_args(argv)
    if (args.ir is None) != (args.vi is None):
        parser.error("--ir and --vi go together")
    if (args.dataset_name is None) != (args.data_root is None):
        parser.error("--dataset_name and --data_root go together")
    if args.ir is not None and args.dataset_name is not None:
        parser.error("give either --ir and --vi, or --dataset_name and --data_root")
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    if args.max_side < SMALLEST_TILE:
        parser.error(f"--max_side must be at least {SMALLEST_TILE}")
    if args.mode != "Seg":
        for option in ("segmenter", "seg_input", "label"):
            if getattr(args, option) is not None:
                parser.error(f"--{option} goes with --mode Seg")
    if args.label is not None and args.ir is None:
        parser.error("--label goes with --ir and --vi; a data set has its own labels, in NAME/test/label")
    if args.mode == "Seg":
        if args.segmenter is None:
            raise UserError("--mode Seg: give --segmenter FILE, a BiSeNet of train.py's stage SEG or SeAFusion's .pth")
        args.seg_input = args.seg_input or "fused"
        if args.metrics and args.seg_input != "fused":
            parser.error("--metrics scores fused images; --seg_input vi or ir makes none")
    return args


def open_pairs(args: argparse.Namespace, num_classes: int) -> PairedFolders | SampleScenes:
    if args.dataset_name:
        pairs = test_set(args.data_root, args.dataset_name, num_classes, label=args.mode == "Seg")
    elif args.ir:
        pairs = PairedFolders(args.ir, args.vi, label=args.label, num_classes=num_classes)
    else:
        pairs = SampleScenes()
    pairs.names = pairs.names[: args.limit]
    return pairs


def process(register: Registrar, fuse: Fuser | None, pair: Pair, mode: str, device: torch.device) -> dict[str, Tensor]:
    """Run ``mode`` on one pair; returns images ``(C, H, W)`` and the flow, on the CPU.

    ``ir`` (what the network saw) and ``vi``; ``aligned``, the undeformed IR image of a test set; after registration
    ``registered``, ``flow_ir2vi`` and ``valid``; after fusion ``fused``, in which the visible image stands where the
    registered one has nothing to show. The modes Fusion and Seg take the pair as aligned.
    """
    pair = pair.in_vi_frame()
    aligned = mode in ("Fusion", "Seg")
    ir = (pair.ir if pair.ir_warp is None or aligned else pair.ir_warp)[None]
    vi = pair.vi[None].to(device)
    result = {"ir": ir.to(device), "vi": vi}
    if pair.ir_warp is not None:
        result["aligned"] = pair.ir[None]
    with torch.inference_mode():
        if not aligned:
            result |= register(result["ir"], vi)
        elif fuse is not None:
            result["fused"] = fuse(result["ir"], vi)
        if mode == "Reg&Fusion":
            result["fused"] = torch.lerp(vi, fuse(result["registered"], vi), share_of_infrared(result))
    return {key: tensor[0].cpu() for key, tensor in result.items()}


def find_classes(segmenter: BiSeNet, seg_input: str, result: dict[str, Tensor], label: Tensor | None) -> dict:
    """``classes`` ``(H, W)`` of the image of ``result`` that ``seg_input`` names, and the ``label`` if there is one."""
    image = gray(result["ir"]) if seg_input == "ir" else result[seg_input]
    found = {"classes": segment(segmenter, image)}
    return found if label is None else found | {"label": label}


def share_of_infrared(result: dict[str, Tensor]) -> Tensor:
    """``(1, 1, H, W)``: 1 where the registered image has content, falling to 0 before the border of the warp and before
    a black band that the given IR image brought along.
    """
    content = content_mask(luminance(result["ir"]))
    shown = result["valid"] * (warp(content, result["flow_ir2vi"]) > 0.999)
    reach = BORDER + FADE
    shown = -F.max_pool2d(-shown, 2 * reach + 1, stride=1, padding=reach)
    return F.avg_pool2d(shown, 2 * FADE + 1, stride=1, padding=FADE, count_include_pad=False)


def save(
    save_dir: Path,
    name: str,
    result: dict[str, Tensor],
    save_flow: bool,
    seg_input: str | None = None,
    num_classes: int = 0,
) -> None:
    """Write what :func:`process` and :func:`find_classes` made of one pair, and a sheet that shows it at a glance."""
    for kind in ("fused", "registered"):
        if kind in result:
            write_image(save_dir / kind / f"{name}.png", result[kind])
    if save_flow and "flow_ir2vi" in result:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, flow_ir2vi=result["flow_ir2vi"].numpy(), valid=result["valid"].numpy())
        write_bytes(save_dir / "flow" / f"{name}.npz", buffer.getvalue())
    if "classes" in result:
        write_class_map(save_dir / "seg" / f"{name}.png", result["classes"])
    write_image(save_dir / "sheets" / f"{name}.png", draw_sheet(reduced(result), seg_input, num_classes))


def reduced(result: dict[str, Tensor]) -> dict[str, Tensor]:
    """``result`` with images, flow and classes of at most ``PANEL_SIDE``: a screen shows no more."""
    size = result["vi"].shape[-2:]
    scale = PANEL_SIDE / max(size)
    if scale >= 1:
        return result
    size = [max(1, round(side * scale)) for side in size]
    small = {}
    for name, tensor in result.items():
        if name == "flow_ir2vi":
            small[name] = resize_flow(tensor[None], size)[0]
        elif name in ("classes", "label"):
            small[name] = F.interpolate(tensor[None, None].float(), size, mode="nearest-exact")[0, 0].to(tensor.dtype)
        elif tensor.ndim == 3:
            small[name] = F.interpolate(tensor[None], size, mode="area")[0]
    return small


def draw_sheet(result: dict[str, Tensor], seg_input: str | None, num_classes: int) -> Tensor:
    """The sheet of one pair, ``(3, H', W')``."""
    panels = {CAPTIONS["vi"]: result["vi"], CAPTIONS["ir"]: result["ir"]}
    if "fused" in result:
        panels[CAPTIONS["fused"]] = result["fused"]
    if "registered" in result:
        panels["IR registered"] = result["registered"]
        below, where = (result["aligned"], "aligned IR") if "aligned" in result else (result["vi"], "VI")
        panels[f"before: IR gradients on {where}"] = gradient_overlay(result["ir"], below)
        panels[f"after: IR gradients on {where}"] = gradient_overlay(result["registered"], below)
        panels["checkerboard of VI and registered IR"] = checkerboard(result["vi"], result["registered"])
        panels["flow: hue for direction, saturation for length"] = flow_colours(result["flow_ir2vi"])
        panels["flow: what it makes of a grid"] = warped_grid(result["flow_ir2vi"])
    if "classes" not in result:
        return sheet(panels)
    caption = CAPTIONS[seg_input]
    return class_sheet(caption, panels[caption], result["classes"], result.get("label"), num_classes, panels)


def report(summary: dict, save_dir: Path) -> None:
    """Print the final lines."""
    print(f"{summary['pairs']} pairs, {summary['seconds_per_pair']:.2f} s each; results in {save_dir}/")
    for protocol, names in SHOWN.items():
        if protocol in summary.get("registration", {}):
            before, after = (summary["registration"][protocol][when] for when in ("before", "after"))
            print(
                f"{protocol:>10}:  " + "   ".join(f"{name} {before[name]:.2f} -> {after[name]:.2f}" for name in names)
            )
    if "segmentation" in summary:
        print(f"{'class':>16}  IoU")
    for name, iou in summary.get("segmentation", {}).items():
        print(f"{name:>16}  " + ("neither labelled nor found" if iou is None else f"{iou:.4f}"))


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    if args.precision == "float16" and device.type == "cpu":
        raise UserError("--precision float16 is for GPUs, a CPU would be slower with it; use bfloat16 or float32")
    if args.precision == "bfloat16":
        warn_of_slow_bfloat16(device, "--precision float32")
    keep_freed_memory()
    metrics = metric_names(args.metrics) if args.metrics else ()
    segmenter = load_segmenter(args.segmenter).to(device) if args.mode == "Seg" else None
    num_classes = len(CLASSES) if segmenter is None else segmenter.architecture["num_classes"]
    pairs = open_pairs(args, num_classes)
    baselines = {"structural": StructuralRegistrar().register, "none": unregistered}
    if args.mode == "Reg" and args.registrar in baselines:
        run_on = partial(process, baselines[args.registrar], None, device=device)
    elif args.mode == "Seg" and args.seg_input != "fused":
        run_on = partial(process, None, None, device=device)
    else:
        model = load_model(args.checkpoint).to(device)
        model = OptimizedSuperFusion(model, args.precision, args.compile, args.max_side)
        registrars = baselines | {"matcher": model.register, "auto": AutoRegistrar(model.register).register}
        run_on = partial(process, registrars[args.registrar], model.fuse, device=device)
    check_writable(args.save_dir)

    rows, scores, matrices, failures = [], [], [], []
    bar = tqdm(pairs.names, unit="pair", disable=None)
    for index, name in enumerate(bar):
        try:
            pair = pairs[index]
            start = time.perf_counter()
            result = run_on(pair, args.mode)
            if segmenter is not None:
                result |= find_classes(segmenter, args.seg_input, result, pair.label)
            seconds = time.perf_counter() - start
            save(args.save_dir, name, result, args.save_flow, args.seg_input, num_classes)
            if "label" in result:
                matrices.append(confusion_matrix(result["classes"], result["label"], num_classes))
            scored = score(pair, result, lambda cropped: run_on(cropped, "Reg")["flow_ir2vi"])
        except (UserError, ValueError) as error:
            failures.append(str(error) if isinstance(error, UserError) else f"{name}: {error}")
            continue
        agreement = {"agreement": result["agreement"].item()} if "agreement" in result else {}
        rows.append({"name": name} | as_columns(scored) | agreement | {"seconds": seconds})
        scores.append(scored)
        bar.set_postfix_str(f"{seconds:.2f} s/pair")

    if rows:
        summary = {"pairs": len(rows), "seconds_per_pair": means(rows, ["seconds"])["seconds"]} | summarise(scores)
        if matrices:
            summary["segmentation"] = figures(matrices)
            write_csv(
                args.save_dir / "segmentation.csv",
                [{"class": name, "IoU": value} for name, value in summary["segmentation"].items()],
            )
        write_csv(args.save_dir / "per_image.csv", rows)
        write_json(args.save_dir / "summary.json", summary)
        report(summary, args.save_dir)
    if rows and metrics:
        pairs.names = [row["name"] for row in rows]
        written = WRITTEN[args.mode] + (("flow",) if args.save_flow and "registered" in WRITTEN[args.mode] else ())
        results = open_results(f"SuperFusion={args.save_dir}", pairs.has_flow, kinds=written)
        failures += evaluate(pairs, [results], metrics, args.save_dir / "scores", os.cpu_count())
    if failures:
        raise UserError("\nerror: ".join(failures))


if __name__ == "__main__":
    run(main)
