"""Register, fuse and segment infrared and visible images: two files, two folders, or a test set.

python test.py                                                   the embedded sample pairs
python test.py --ir thermal.tif --vi visible.jpg                 two files
python test.py --ir thermal/ --vi visible/                       two folders, partners found by name
python test.py --dataset_name MSRS --data_root DIR               a test set, errors in pixels reported
python test.py --mode Seg --segmenter FILE ...                   of any of these, the classes of the fused image
python test.py --ir thermal/ --vi visible/ --transform out/transform    by maps that were found before
python test.py --ir thermal/ --vi visible/ --calibrate rig.json  one map for all pairs of two fixed cameras
python test.py --ir thermal/ --vi visible/ --rig rig.json        by that map, refined for each pair
python test.py --ir thermal.mp4 --vi visible.mp4                 two videos
accelerate launch test.py ...                                    a folder shared among processes, GPUs, machines

A pair whose registration is not to be trusted is refused: a line says so, and no registered and no fused image is
written (--keep_refused writes them). Exit code: 0; 2 for bad input; 3 if every pair was refused.
"""

import argparse
import math
import os
import sys
import time
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from datasets.calibrated import CalibratedPairs
from datasets.paired import Pair
from models import Pipeline, load_model, load_segmenter
from models.deploy.inference import PRECISIONS, SMALLEST_TILE
from models.pipeline import MAX_SIDE
from models.registration import REGISTRARS, Transform
from models.registration.measurements import INTERPOLATIONS
from models.registration.registrar import ROTATION, SCALE, SEARCHES
from models.weights import SHIPPED
from utils.arguments import at_least, renamed, share_of_one, sheet_count
from utils.classes import CLASSES
from utils.device import pick_device, warn_of_slow_bfloat16
from utils.errors import UserError, run
from utils.evaluation.data_options import add_data_options, check_data_options, open_pairs, reading
from utils.evaluation.protocols import PROTOCOLS, score
from utils.evaluation.result_folders import open_results
from utils.evaluation.scoring import metric_names, score_methods
from utils.evaluation.segmentation import segment
from utils.figures.pair_sheet import CAPTIONS
from utils.files.video import is_video
from utils.files.writing import check_apart, check_writable
from utils.jobs.pairs import FRAMES, Processed, Task, process, process_all, save, segmented
from utils.jobs.records import Record, read_records, summarise
from utils.jobs.rigs import calibrate
from utils.jobs.sharing import Share
from utils.jobs.video import VideoPair, fuse_video
from utils.memory import keep_freed_memory
from utils.notes import Notes

# The scores of each protocol that the final report prints; errors are in pixels, "cameras" at a VI width of 640.
REPORTED = {
    "official": ("EPE", "RE", "EPE_p95"),
    "band_free": ("EPE", "RE", "EPE_p95"),
    "cameras": ("median_640", "within_5px", "within_10px", "AUC_10px"),
    "alignment": ("align_MI", "align_NCC"),
}

# Options that change no result of a pair: --skip_done takes pairs that were done with others of these.
NOT_IN_RESULTS = ("out", "sheets", "skip_done", "limit", "device", "metrics", "compile", "pairs", "recursive")

# The outputs of each mode that evaluate.py can score.
WRITTEN = {"Reg": ("registered",), "Fusion": ("fused",), "Reg&Fusion": ("fused", "registered"), "Seg": ("fused",)}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--mode", choices=tuple(WRITTEN), default="Reg&Fusion")
    add_data_options(parser)
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N pairs, or frames of a video")
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
    parser.add_argument(
        "--calibrate", type=Path, metavar="RIG.json", help="make one map for all pairs, of cameras fixed to each other"
    )
    parser.add_argument("--rig", type=Path, metavar="RIG.json", help="register near the map of --calibrate")
    parser.add_argument("--rig_only", action="store_true", help="apply the map of --rig as it is, estimate nothing")
    parser.add_argument(
        "--set_rig",
        type=Path,
        metavar="RIG.json",
        help="test sets: what maps VI to the aligned IR, where the set's own pairs are not quite aligned",
    )
    parser.add_argument(
        "--skip_done", action="store_true", help="leave out pairs that an earlier run of the same options has done"
    )
    parser.add_argument(
        "--frame", choices=FRAMES, default="vi", help="on whose frame the results lie; ir: VI is warped, IR untouched"
    )
    parser.add_argument(
        "--save_thermal", action="store_true", help="also OUT/thermal/NAME.tiff, the IR file's own values, float32"
    )
    parser.add_argument(
        "--thermal_interpolation", choices=INTERPOLATIONS, default="bilinear", help="of --save_thermal on VI's frame"
    )
    video = parser.add_argument_group("videos", "--ir and --vi are two videos, or patterns such as 'ir/*.png'")
    video.add_argument(
        "--offset", type=int, default=0, metavar="FRAMES", help="VI's frame i belongs to IR's frame i + FRAMES"
    )
    video.add_argument(
        "--key_every", type=at_least(1), default=25, metavar="FRAMES", help="register every such frame (default: 25)"
    )
    video.add_argument(
        "--smooth",
        type=at_least(0),
        default=50,
        metavar="FRAMES",
        help="standard deviation of the smoothing of transforms over time (default: 50)",
    )
    parser.add_argument(
        "--ir_strength",
        type=share_of_one,
        default=1.0,
        metavar="0..1",
        help="how much of IR is fused: VI + strength (fused - VI) (default: 1)",
    )
    parser.add_argument("--segmenter", type=Path, help="mode Seg: BiSeNet weights, ours or SeAFusion's .pth")
    parser.add_argument(
        "--seg_input", choices=tuple(CAPTIONS), help="mode Seg: what to segment (default: the aligned pair fused)"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the results (default: results)")
    parser.add_argument("--save_dir", type=Path, action=renamed("--out"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--sheets",
        type=sheet_count,
        nargs="?",
        const=math.inf,
        metavar="all|N|none",
        help="draw sheets of all pairs (the default), of the first N, or none; of videos: also OUT/sheets.mp4",
    )
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
    if args.mode not in ("Reg", "Reg&Fusion"):
        for option in ("transform", "calibrate", "rig", "set_rig", "save_thermal"):
            if getattr(args, option):
                parser.error(f"--{option} goes with the modes Reg and Reg&Fusion")
    if sum(given is not None for given in (args.transform, args.calibrate, args.rig)) > 1:
        parser.error("give one of --transform, --calibrate and --rig")
    if args.rig_only and args.rig is None:
        parser.error("--rig_only goes with --rig")
    if args.calibrate is not None and not REGISTRARS[args.registrar].decides:
        parser.error(f"--calibrate needs a registrar that judges its answers; {args.registrar} does not")
    if args.frame == "ir" and (args.mode not in ("Reg", "Reg&Fusion") or args.metrics):
        parser.error("--frame ir goes with the modes Reg and Reg&Fusion, without --metrics")
    if args.ir_strength != 1 and args.mode == "Reg":
        parser.error("--ir_strength goes with modes that fuse")
    if args.rig_only:
        args.transform, args.rig = args.rig, None
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


def check_inputs_apart(args: argparse.Namespace, sources: list[Path]) -> None:
    """Raise UserError if one of the folders and files that the mode writes is an input."""
    folders = ["sheets", "done", *WRITTEN[args.mode]]
    folders += ["transform"] if "registered" in folders else []
    folders += [kind for kind, wanted in (("flow", args.save_flow), ("thermal", args.save_thermal)) if wanted]
    folders += [kind for kind, wanted in (("seg", args.mode == "Seg"), ("scores", args.metrics)) if wanted]
    files = ["per_image.csv", "summary.json", "segmentation.csv", "key_frames.csv", "rig.png"]
    files += ["registered.mp4", "fused.mp4", "sheets.mp4"]
    given = (args.ir, args.vi, args.rgbt, args.label, args.pairs, args.transform, args.rig, args.set_rig)
    written = [args.out / name for name in files] + ([args.calibrate] if args.calibrate else [])
    inputs = [*sources, *given, args.checkpoint, args.segmenter]
    check_apart(inputs, [args.out / name for name in folders], written)


def load_pipeline(args: argparse.Namespace) -> Pipeline:
    """Load the pipeline that the arguments select, with a network only if it is needed."""
    device = pick_device(args.device)
    if args.precision == "float16" and device.type == "cpu":
        raise UserError("--precision float16 is for GPUs, a CPU would be slower with it; use bfloat16 or float32")
    if args.precision == "bfloat16":
        warn_of_slow_bfloat16(device, "--precision float32")
    fuses = args.seg_input == "fused" if args.mode == "Seg" else args.mode != "Reg"
    fuses = fuses and args.calibrate is None
    registers = args.mode in ("Reg", "Reg&Fusion") and args.transform is None and args.rig is None
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
        None if args.rig is None else Transform.load(args.rig),
        args.ir_strength,
    )


def report(summary: dict, out: Path) -> None:
    """Print the final report."""
    pairs = f"{summary['pairs']} pair" + ("s" if summary["pairs"] > 1 else "")
    judged = f", {summary['accepted']} accepted, {summary['refused']} refused" if "accepted" in summary else ""
    print(f"{pairs}{judged}, {summary['seconds_per_pair']:.2f} s each; results in {out}/")
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


def report_rig(summary: dict, failures: list[str], args: argparse.Namespace) -> None:
    """Print the result of --calibrate; raises UserError for the pairs that could not be read."""
    spread = summary["spread_px"]
    print(f"{args.calibrate}: from {summary['used']} of {summary['pairs']} pairs, {summary['agree']} of which agree")
    print(f"single pairs lie {spread['median']:.1f} px (median), {spread['largest']:.1f} px at most, from it")
    print(f"see {args.out}/rig.png")
    if failures:
        raise UserError("\nerror: ".join(failures))


def run_video(pipeline: Pipeline, args: argparse.Namespace) -> dict:
    """Register and fuse two videos; returns the summary."""
    for option in ("metrics", "calibrate", "set_rig", "save_thermal", "save_flow", "segmenter"):
        if getattr(args, option):
            raise UserError(f"--{option} is for images, not for videos")
    if args.frame == "ir":
        raise UserError("--frame ir is for images, not for videos")
    for path, partner in ((args.ir, args.vi), (args.vi, args.ir)):
        if not is_video(path):
            problem = f"no video, but its partner {partner} is one" if path.exists() else "no such file"
            raise UserError(f"{path}: {problem}")
    transform = None if args.transform is None else Transform.load(args.transform)
    check_writable(args.out)
    videos = VideoPair(args.ir, args.vi, args.offset, args.limit, reading(args))
    sheets = bool(args.sheets)
    return fuse_video(pipeline, videos, args.out, args.mode, transform, args.key_every, args.smooth, sheets)


def report_video(summary: dict, out: Path) -> None:
    """Print the final report of a video."""
    keys = f", {summary['accepted']} of {summary['key_frames']} key frames accepted" if "key_frames" in summary else ""
    print(f"{summary['frames']} frames, {summary['frames_per_second']:.2f} a second{keys}; results in {out}/")
    if changes := summary.get("transform_change_px"):
        before, after = changes["before_smoothing"], changes["after_smoothing"]
        print(
            f"change of the map from frame to frame, px: mean {before['mean']:.3f} -> {after['mean']:.3f}, largest "
            f"{before['largest']:.2f} -> {after['largest']:.2f} (before -> after smoothing)"
        )
    print(summary["infrared"])
    if changes := summary.get("image_change_levels"):
        print(f"change of the image, levels of 255: visible {changes['vi']:.2f}, fused {changes['fused']:.2f}")


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    metrics = metric_names(args.metrics) if args.metrics else ()
    keep_freed_memory()
    share = Share(pick_device(args.device))
    pipeline = load_pipeline(args)
    segmenter = load_segmenter(args.segmenter).to(pipeline.device) if args.mode == "Seg" else None
    num_classes = len(CLASSES) if segmenter is None else segmenter.architecture["num_classes"]
    videos = args.ir is not None and (is_video(args.ir) or is_video(args.vi))
    if share.count > 1 and (videos or args.calibrate is not None):
        raise UserError("several processes share a folder of pairs; start a video or --calibrate with python test.py")
    if videos:
        check_inputs_apart(args, [])
        return report_video(run_video(pipeline, args), args.out)
    args.sheets = math.inf if args.sheets is None else args.sheets
    pairs = open_pairs(args, num_classes, labels=args.mode == "Seg")
    check_inputs_apart(args, pairs.sources)
    pairs = pairs.subset(pairs.names[: args.limit])
    if metrics and pairs.has_vi_to_ir:
        raise UserError(
            "--metrics: the images of two unlike cameras are not aligned, there is nothing to score by; leave it out"
        )
    if args.set_rig is not None:
        pairs = CalibratedPairs(pairs, args.set_rig)
    if share.main:
        check_writable(args.out)
    if args.calibrate is not None:
        return report_rig(*calibrate(pairs, pipeline.register, args.calibrate, args.out), args)

    def compute(pair: Pair) -> Processed:
        start = time.perf_counter()
        processed = process(pipeline, pair, task)
        if segmenter is not None:
            processed.num_classes = num_classes
            processed.classes = segment(segmenter, segmented(processed, task.seg_input))
        processed.seconds = time.perf_counter() - start
        if processed.registration is not None:
            processed.scores = score(processed.pair, processed.registration, pipeline.register, args.protocols)
        return processed

    def write(processed: Processed, number: int) -> None:
        save(processed, task, number)
        records.append(Record.of(processed, options))
        records[-1].write(args.out)

    task = Task(**{field.name: getattr(args, field.name) for field in fields(Task)})
    options = {name: str(value) for name, value in vars(args).items() if name not in NOT_IN_RESULTS}
    done = read_records(pairs.names, args.out, options) if args.skip_done else []
    share.wait()  # until all have read, before one writes
    left = share.of([name for name in pairs.names if name not in {record.name for record in done}])
    records, failures = share.of(done), []
    bar = tqdm(process_all(pairs.subset(left), compute, write, failures), total=len(left), unit="pair", disable=None)
    notes = Notes(lambda line: bar.write(line, file=sys.stderr))
    for processed in bar:
        notes.tell(processed.pair.name, processed.pair.notes)
        if processed.refused:
            confidence = processed.registration.confidence.item()
            bar.write(
                f"{processed.pair.name}: refused, confidence {confidence:.2f}; if both images show one scene, try a "
                "wider --scale or --rotation; the sheet shows what was found, --keep_refused writes it",
                file=sys.stderr,
            )
        bar.set_postfix_str(f"{processed.seconds:.2f} s/pair")
    notes.close()

    records, failures = share.gather(records), share.gather(failures)
    if not share.main:
        return
    order = {name: number for number, name in enumerate(pairs.names)}
    records.sort(key=lambda record: order[record.name])
    if records:
        report(summarise(records, args.out), args.out)
    written_pairs = [record.name for record in records if args.keep_refused or record.accepted]
    if written_pairs and metrics:
        pairs = pairs.subset(written_pairs)
        written = WRITTEN[args.mode] + (("flow",) if args.save_flow and "registered" in WRITTEN[args.mode] else ())
        results = open_results(f"SuperFusion={args.out}", pairs.has_flow, kinds=written)
        failures += score_methods(pairs, [results], metrics, args.out / "scores", os.cpu_count(), told=True)
    if failures:
        raise UserError("\nerror: ".join(failures))
    if records and not any(record.accepted for record in records):
        sys.exit(3)


if __name__ == "__main__":
    run(main)
