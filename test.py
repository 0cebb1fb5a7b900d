"""Register, fuse and segment infrared and visible images: two files, two folders, or a test set.

python test.py                                                   the embedded sample pairs
python test.py --ir thermal.tif --vi visible.jpg                 two files
python test.py --ir thermal/ --vi visible/                       two folders, partners found by name
python test.py --dataset_name MSRS --data_root DIR               a test set, errors in pixels reported
python test.py --mode Seg --segmenter FILE ...                   of any of these, the classes of the fused image
python test.py --ir thermal/ --vi visible/ --transform out/transform    by maps that were found before

A pair whose registration is not to be trusted is refused: a line says so, and no registered and no fused image is
written (--keep_refused writes them). Exit code: 0; 2 for bad input; 3 if every pair was refused.
"""

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.paired import Pair
from models import Pipeline, load_model, load_segmenter
from models.deploy.inference import PRECISIONS, SMALLEST_TILE
from models.pipeline import MAX_SIDE
from models.registration import REGISTRARS, Transform
from models.registration.registrar import ROTATION, SCALE, SEARCHES
from models.registration.registry import registered as registered_by
from models.results import Registration
from models.warping import pixel_grid, resize
from models.weights import SHIPPED
from utils.arguments import at_least, renamed
from utils.classes import CLASSES
from utils.colour import luminance
from utils.device import pick_device, warn_of_slow_bfloat16
from utils.errors import MissingPackage, UserError, run
from utils.evaluation.data_options import add_data_options, check_data_options, open_pairs
from utils.evaluation.protocols import PROTOCOLS, as_columns, registration_summary, score
from utils.evaluation.result_folders import open_results
from utils.evaluation.scoring import metric_names, score_methods
from utils.evaluation.segmentation import iou_scores, segment, write_class_map
from utils.figures.pair_sheet import CAPTIONS, Pictures, pair_sheet
from utils.files.images import write_image
from utils.files.results import means, write_csv, write_json
from utils.files.writing import check_writable, write_file
from utils.memory import keep_freed_memory
from utils.metrics.segmentation import confusion_matrix
from utils.notes import Notes

# The scores of each protocol that the final report prints; errors are in pixels, "cameras" at a VI width of 640.
REPORTED = {
    "official": ("EPE", "RE", "EPE_p95"),
    "band_free": ("EPE", "RE", "EPE_p95"),
    "cameras": ("median_640", "within_5px", "within_10px", "AUC_10px"),
    "alignment": ("align_MI", "align_NCC"),
}

# The outputs of each mode that evaluate.py can score.
WRITTEN = {"Reg": ("registered",), "Fusion": ("fused",), "Reg&Fusion": ("fused", "registered"), "Seg": ("fused",)}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--mode", choices=tuple(WRITTEN), default="Reg&Fusion")
    add_data_options(parser)
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N pairs")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="our .safetensors or the authors' .pth")
    parser.add_argument(
        "--registrar",
        choices=tuple(REGISTRARS),
        default="auto",
        help="; ".join(f"{name}: {entry.description}" for name, entry in REGISTRARS.items()),
    )
    parser.add_argument(
        "--search",
        choices=SEARCHES,
        default="auto",
        help="narrow: both images show one frame but for some degrees; wide: other fields of view; auto: wide where "
        "narrow is not accepted or the sizes differ",
    )
    parser.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=SCALE,
        metavar=("MIN", "MAX"),
        help="wide: the field of view of IR relative to that of VI, by width (default: %(default)s)",
    )
    parser.add_argument(
        "--rotation", type=float, default=ROTATION, metavar="DEGREES", help="wide: up to 180 (default: %(default)s)"
    )
    parser.add_argument("--keep_refused", action="store_true", help="write the images of refused pairs, too")
    parser.add_argument(
        "--transform",
        type=Path,
        metavar="FILE",
        help="apply this transform, or of a folder NAME.json",
    )
    parser.add_argument("--segmenter", type=Path, help="mode Seg: BiSeNet weights, ours or SeAFusion's .pth")
    parser.add_argument(
        "--seg_input", choices=tuple(CAPTIONS), help="mode Seg: what to segment (default: the aligned pair fused)"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the results (default: results)")
    parser.add_argument("--save_dir", type=Path, action=renamed("--out"), help=argparse.SUPPRESS)
    parser.add_argument("--save_flow", action="store_true", help="also write OUT/flow/NAME.npz")
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=PROTOCOLS,
        default=["official"],
        help="test sets: score the pair as shipped (official) and cropped to exclude the black band (band_free)",
    )
    parser.add_argument(
        "--metrics", help="also score fused images against VI and aligned IR: all, paper (the six) or MI,SSIM,..."
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="float32",
        help="of the convolutions; bfloat16 (float16 on older GPUs) is faster where the hardware has it",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the convolutions: slow start, then fast")
    parser.add_argument(
        "--max_side",
        type=at_least(SMALLEST_TILE),
        default=MAX_SIDE,
        metavar="N",
        help=f"larger images: longer side at which the flow is estimated, and side of the tiles (default: {MAX_SIDE})",
    )
    args = parser.parse_args(argv)
    check_data_options(parser, args)
    if not (0 < args.scale[0] <= args.scale[1] and 0 <= args.rotation <= 180):
        parser.error("--scale takes two numbers above 0, the smaller first; --rotation one from 0 to 180")
    if args.transform is not None and args.mode not in ("Reg", "Reg&Fusion"):
        parser.error("--transform goes with the modes Reg and Reg&Fusion")
    if args.mode != "Seg":
        for option in ("segmenter", "seg_input", "label"):
            if getattr(args, option) is not None:
                parser.error(f"--{option} goes with --mode Seg")
        return args
    if args.segmenter is None:
        raise UserError("--mode Seg: give --segmenter FILE, a BiSeNet of train.py's stage SEG or SeAFusion's .pth")
    args.seg_input = args.seg_input or "fused"
    if args.metrics and args.seg_input != "fused":
        parser.error("--metrics scores fused images; --seg_input vi or ir makes none")
    return args


def load_pipeline(args: argparse.Namespace) -> Pipeline:
    """Load the pipeline that the arguments select, with a network only if it is needed."""
    device = pick_device(args.device)
    if args.precision == "float16" and device.type == "cpu":
        raise UserError("--precision float16 is for GPUs, a CPU would be slower with it; use bfloat16 or float32")
    if args.precision == "bfloat16":
        warn_of_slow_bfloat16(device, "--precision float32")
    fuses = args.seg_input == "fused" if args.mode == "Seg" else args.mode != "Reg"
    registers = args.mode in ("Reg", "Reg&Fusion") and args.transform is None
    needs_network = fuses or (registers and REGISTRARS[args.registrar].uses_network)
    model = load_model(args.checkpoint) if needs_network else None
    return Pipeline(
        model,
        args.registrar if registers else "none",
        args.precision,
        args.max_side,
        args.compile,
        device,
        args.search,
        tuple(args.scale),
        args.rotation,
    )


@dataclass
class Processed:
    """The results of one pair, on the CPU; ``ir`` is the IR image of it that was used."""

    pair: Pair
    ir: Tensor  # (C, h, w)
    registration: Registration | None = None  # a batch of one
    fused: Tensor | None = None  # (3, H, W)
    classes: Tensor | None = None  # (H, W)

    @property
    def missing(self) -> Tensor | None:
        """The pixels ``(1, h, w)`` bool of ``ir`` that have no value; None if there are none."""
        return self.pair.missing if self.pair.ir_warp is None else None

    @property
    def refused(self) -> bool:
        """True if the registrar does not trust its answer."""
        decided = self.registration is not None and self.registration.accepted is not None
        return decided and not bool(self.registration.accepted[0])


@torch.inference_mode()
def process(pipeline: Pipeline, pair: Pair, args: argparse.Namespace) -> Processed:
    """Run the mode on one pair. The modes Fusion and Seg take it as aligned but for the resolution."""
    aligned = args.mode in ("Fusion", "Seg")
    pair = pair.in_vi_frame() if aligned else pair
    processed = Processed(pair, pair.ir if aligned or pair.ir_warp is None else pair.ir_warp)
    ir, vi = processed.ir[None].to(pipeline.device), pair.vi[None].to(pipeline.device)
    missing = None if processed.missing is None else processed.missing[None].to(pipeline.device)
    if aligned:
        if args.mode == "Fusion" or args.seg_input == "fused":
            processed.fused = pipeline.fuse(ir, vi, missing)[0].cpu()
        return processed
    if args.transform is None:
        registration = pipeline.register(ir, vi, missing)
    else:
        path = args.transform / f"{pair.name}.json" if args.transform.is_dir() else args.transform
        if not path.is_file():
            raise UserError(f"{path}: no such transform; --transform FILE applies one map to all pairs")
        registration = registered_by(ir, [Transform.load(path)])
        registration = registration if missing is None else registration.without(missing)
    processed.registration = registration.cpu()
    if args.mode == "Reg&Fusion" and (args.keep_refused or not processed.refused):
        processed.fused = pipeline.fuse_registered(ir, vi, registration).fused[0].cpu()
    return processed


def segmented(processed: Processed, seg_input: str) -> Tensor:
    """Return the image ``(1 or 3, H, W)`` that mode Seg segments."""
    return {"fused": processed.fused, "vi": processed.pair.vi, "ir": luminance(processed.ir[None])[0]}[seg_input]


def save(out: Path, name: str, processed: Processed, args: argparse.Namespace, num_classes: int) -> None:
    """Write what :func:`process` made of one pair, and a sheet that shows it at a glance.

    Of a refused pair only the transform and the sheet are written, and images of an earlier run are removed.
    """
    size = processed.pair.vi.shape[-2:]
    ir = processed.ir if processed.missing is None else processed.ir.masked_fill(processed.missing, 0)
    ir = ir if ir.shape[-2:] == size else resize(ir[None], size)[0]
    pictures = Pictures(processed.pair.vi, ir, fused=processed.fused, classes=processed.classes)
    images = {"fused": processed.fused}
    if processed.registration is not None:
        registered, flow, valid = (
            getattr(processed.registration, part)[0] for part in ("registered", "flow_ir2vi", "valid")
        )
        images["registered"] = registered if args.keep_refused or not processed.refused else None
        if processed.registration.transforms is not None:
            processed.registration.transforms[0].save(out / "transform" / f"{name}.json")
        grid = pixel_grid(*flow.shape[-2:], like=flow)[0]
        positions = flow + grid
        if args.save_flow:
            arrays = {"flow_ir2vi": flow.numpy(), "valid": valid.numpy(), "map_vi2ir": positions.numpy()}
            write_file(out / "flow" / f"{name}.npz", lambda file: np.savez_compressed(file, **arrays))
        # A sheet shows IR's frame fitted to VI's, and the flow between those.
        ratio = flow.new_tensor([size[1] / processed.ir.shape[-1], size[0] / processed.ir.shape[-2]]).view(2, 1, 1)
        pictures.registered, pictures.flow_ir2vi = registered, (positions + 0.5) * ratio - 0.5 - grid
        if processed.registration.accepted is not None:
            verdict = "REFUSED" if processed.refused else "accepted"
            pictures.verdict = f"{verdict}, confidence {processed.registration.confidence.item():.2f}"
    for kind, image in images.items():
        path = out / kind / f"{name}.png"
        if image is not None:
            write_image(path, image)
        elif processed.refused:
            path.unlink(missing_ok=True)
    if processed.pair.ir_warp is not None:
        pictures.aligned = processed.pair.ir
    if processed.classes is not None:
        pictures.label = processed.pair.label
        write_class_map(out / "seg" / f"{name}.png", processed.classes)
    write_image(out / "sheets" / f"{name}.png", pair_sheet(pictures, args.seg_input, num_classes))


def report(summary: dict, out: Path) -> None:
    """Print the final report."""
    pairs = f"{summary['pairs']} pair" + ("s" if summary["pairs"] > 1 else "")
    refused = f", {summary['refused']} refused" if summary.get("refused") else ""
    print(f"{pairs}{refused}, {summary['seconds_per_pair']:.2f} s each; results in {out}/")
    for protocol, names in REPORTED.items():
        if protocol in summary.get("registration", {}):
            before, after = (summary["registration"][protocol][when] for when in ("before", "after"))
            changes = "   ".join(f"{name} {before[name]:.2f} -> {after[name]:.2f}" for name in names)
            print(f"{protocol:>10}:  {changes}")
    if "segmentation" in summary:
        print(f"{'class':>16}  IoU")
    for name, iou in summary.get("segmentation", {}).items():
        print(f"{name:>16}  " + ("neither labelled nor found" if iou is None else f"{iou:.4f}"))
    for statement, count in summary["infrared"].items():
        print(statement if count == summary["pairs"] else f"{statement} ({count} pairs)")


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    metrics = metric_names(args.metrics) if args.metrics else ()
    keep_freed_memory()
    pipeline = load_pipeline(args)
    segmenter = load_segmenter(args.segmenter).to(pipeline.device) if args.mode == "Seg" else None
    num_classes = len(CLASSES) if segmenter is None else segmenter.architecture["num_classes"]
    pairs = open_pairs(args, num_classes, labels=args.mode == "Seg")
    pairs = pairs.subset(pairs.names[: args.limit])
    if metrics and pairs.has_vi_to_ir:
        raise UserError(
            "--metrics: the images of two unlike cameras are not aligned, there is nothing to score by; leave it out"
        )
    check_writable(args.out)

    rows, scores, matrices, failures = [], [], [], []
    bar = tqdm(pairs.names, unit="pair", disable=None)
    notes, statements = Notes(lambda line: bar.write(line, file=sys.stderr)), Counter()
    for index, name in enumerate(bar):
        try:
            pair = pairs[index]
            notes.tell(name, pair.notes)
            start = time.perf_counter()
            processed = process(pipeline, pair, args)
            if segmenter is not None:
                processed.classes = segment(segmenter, segmented(processed, args.seg_input))
            seconds = time.perf_counter() - start
            save(args.out, name, processed, args, num_classes)
            if segmenter is not None and pair.label is not None:
                matrices.append(confusion_matrix(processed.classes, pair.label, num_classes))
            row = {"name": name}
            if pair.infrared is not None:
                statements[pair.infrared.statement] += 1
                row |= dict(zip(("ir_low", "ir_high"), pair.infrared.range))
            if processed.registration is not None:
                scores.append(score(processed.pair, processed.registration, pipeline.register, args.protocols))
                row |= as_columns(scores[-1])
                if processed.registration.accepted is not None:
                    confidence = processed.registration.confidence.item()
                    row |= {"accepted": int(not processed.refused), "confidence": confidence}
            if processed.refused:
                bar.write(
                    f"{name}: refused, confidence {row['confidence']:.2f}; if both images show one scene, try a wider "
                    "--scale or --rotation; the sheet shows what was found, --keep_refused writes it",
                    file=sys.stderr,
                )
        except MissingPackage:
            raise
        except (UserError, ValueError) as error:
            failures.append(str(error) if isinstance(error, UserError) else f"{name}: {error}")
            continue
        rows.append(row | {"seconds": seconds})
        bar.set_postfix_str(f"{seconds:.2f} s/pair")

    notes.close()
    if rows:
        summary: dict[str, Any] = {"pairs": len(rows), "seconds_per_pair": means(rows, ["seconds"])["seconds"]}
        summary["infrared"] = dict(statements)
        decided = [row["accepted"] for row in rows if "accepted" in row]
        if decided:
            summary |= {"accepted": sum(decided), "refused": len(decided) - sum(decided)}
        summary |= registration_summary(scores, [bool(accepted) for accepted in decided] or None)
        if matrices:
            summary["segmentation"] = iou_scores(matrices)
            classes = [{"class": name, "IoU": value} for name, value in summary["segmentation"].items()]
            write_csv(args.out / "segmentation.csv", classes)
        write_csv(args.out / "per_image.csv", rows)
        write_json(args.out / "summary.json", summary)
        report(summary, args.out)
    written_pairs = [row["name"] for row in rows if args.keep_refused or row.get("accepted", 1)]
    if written_pairs and metrics:
        pairs = pairs.subset(written_pairs)
        written = WRITTEN[args.mode] + (("flow",) if args.save_flow and "registered" in WRITTEN[args.mode] else ())
        results = open_results(f"SuperFusion={args.out}", pairs.has_flow, kinds=written)
        failures += score_methods(pairs, [results], metrics, args.out / "scores", os.cpu_count())
    if failures:
        raise UserError("\nerror: ".join(failures))
    if rows and not any(row.get("accepted", 1) for row in rows):
        sys.exit(3)


if __name__ == "__main__":
    run(main)
