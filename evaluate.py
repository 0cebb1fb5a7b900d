"""Score results against a data set: fused images, flows and registered images of any number of methods.

python evaluate.py --dataset_name MSRS --data_root DIR --results ours=results other=DIR --metrics paper --out scores
python evaluate.py --ir thermal/ --vi visible/ --results ours=results --out scores
python evaluate.py --dataset_name MSRS --data_root DIR --results ours=results --segmenter FILE --out scores

A result folder is one that test.py wrote, or any folder of fused images, gray or colour, that carry the names of the
data set's images. No network runs but the one of --segmenter: the segmentation table has the IoU of the classes that it
finds in the visible, the infrared and each method's fused images, and of the class maps that a method left in seg/.
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from datasets.paired import Pair, PairedFolders, test_set
from models import BiSeNet, load_segmenter
from models.bisenet import CLASSES
from utils.device import pick_device
from utils.errors import UserError, run
from utils.evaluation.result_folders import Results, missing_files, open_results, read_estimated_flow
from utils.evaluation.segmentation import INPUTS, class_maps, score_segmentations
from utils.figures.curves import cumulative_curves, trade_off
from utils.figures.plots import comparison, salient_boxes
from utils.figures.tables import higher, latex, markdown, summarise
from utils.files.images import check_writable, read_image, write_bytes, write_image
from utils.files.results import write_csv
from utils.metrics.alignment import alignment_metrics
from utils.metrics.fusion import METRICS, PAPER, PAPER_SCALE, fusion_metrics, gray_levels
from utils.metrics.registration import registration_metrics


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset_name", help="a test set below --data_root, such as MSRS or RoadScene")
    parser.add_argument("--data_root", type=Path, help="holds NAME/test/{ir,vi,...} or the authors' test/NAME/")
    parser.add_argument("--ir", type=Path, help="a folder of infrared images, aligned with those of --vi")
    parser.add_argument("--vi", type=Path, help="a folder of visible images")
    parser.add_argument("--label", type=Path, help="a folder of class maps (8-bit PNG) of the images of --vi")
    parser.add_argument(
        "--results",
        nargs="+",
        required=True,
        metavar="NAME=DIR",
        help="a method's name and its folder: fused images, or fused/, registered/, flow/, seg/ in it as of test.py",
    )
    parser.add_argument("--metrics", default="all", help="all, paper (the paper's six), none, or names: MI,SSIM,...")
    parser.add_argument("--paper_scale", action="store_true", help="add the variants on the scale of tables of 2022")
    parser.add_argument("--segmenter", type=Path, help="BiSeNet weights, ours or SeAFusion's: adds a table of IoU")
    parser.add_argument("--device", default="auto", help="where the segmenter runs: auto, cpu, cuda[:i] or mps")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and curves")
    parser.add_argument("--sheets", type=int, default=0, metavar="N", help="compare the methods on the first N pairs")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default: one a core")
    args = parser.parse_args(argv)
    if (args.ir is None) != (args.vi is None):
        parser.error("--ir and --vi go together")
    if (args.dataset_name is None) != (args.data_root is None):
        parser.error("--dataset_name and --data_root go together")
    if (args.ir is None) == (args.dataset_name is None):
        parser.error("give either --dataset_name and --data_root, or --ir and --vi")
    if args.label is not None and args.ir is None:
        parser.error("--label goes with --ir and --vi; a data set has its own labels, in NAME/test/label")
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


def metric_names(choice: str, paper_scale: bool = False) -> tuple[str, ...]:
    """The fusion metrics that ``--metrics`` asks for; UserError names those that do not exist."""
    names = {"all": tuple(METRICS), "paper": PAPER, "none": ()}.get(choice, tuple(choice.split(",")))
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        known = ", ".join(METRICS)
        raise UserError(f"--metrics: unknown {', '.join(unknown)}; use all, paper, none or names of {known}")
    return names + (tuple(PAPER_SCALE) if paper_scale else ())


def in_summary(kind: str, metrics: tuple[str, ...]) -> bool:
    """Whether files of ``kind`` have figures of their own; those of class maps are for all images together."""
    return kind != "seg" and (kind != "fused" or bool(metrics))


def score_file(kind: str, path: Path, pair: Pair, metrics: tuple[str, ...]) -> dict[str, float]:
    """The figures of one result file of ``kind``, by column."""
    if kind == "fused":
        return fusion_metrics(gray_levels(pair.ir), gray_levels(pair.vi), gray_levels(read_image(path)), metrics)
    if kind == "flow":
        return registration_metrics(read_estimated_flow(path)[None], pair.flow[None])
    given = {"before": pair.ir if pair.ir_warp is None else pair.ir_warp, "after": read_image(path)}
    scored = {when: alignment_metrics(gray_levels(image), gray_levels(pair.vi)) for when, image in given.items()}
    return {f"{name}_{when}": value for when, figures in scored.items() for name, value in figures.items()}


def score_pair(
    pairs: PairedFolders, methods: list[Results], metrics: tuple[str, ...], index: int
) -> tuple[list[dict], list[str]]:
    """Score all methods on one pair; returns a row for each method and a line for each file that failed."""
    name = pairs.names[index]
    try:
        pair = pairs[index].in_vi_frame()
    except (UserError, ValueError) as error:
        return [], [str(error) if isinstance(error, UserError) else f"{name}: {error}"]
    rows, problems = [], []
    for results in methods:
        row = {}
        for kind, files in results.files.items():
            if name not in files or not in_summary(kind, metrics):
                continue
            try:
                row |= score_file(kind, files[name], pair, metrics)
            except UserError as error:
                problems.append(str(error))
            except ValueError as error:
                problems.append(f"{files[name]}: {error}")
        if row:
            rows.append({"method": results.method, "name": name} | row)
    return rows, problems


def score_all(
    pairs: PairedFolders, methods: list[Results], metrics: tuple[str, ...], workers: int
) -> tuple[list[dict], list[str]]:
    """Score every pair, in processes if ``workers`` > 1; rows are sorted by method, then name."""
    score = partial(score_pair, pairs, methods, metrics)
    bar = partial(tqdm, total=len(pairs), unit="pair", disable=None)
    if workers == 1:
        scored = list(bar(map(score, range(len(pairs)))))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            scored = list(bar(pool.map(score, range(len(pairs)))))
    rows = [row for own, _ in scored for row in own]
    order = {results.method: rank for rank, results in enumerate(methods)}
    return sorted(rows, key=lambda row: order[row["method"]]), [line for _, lines in scored for line in lines]


def evaluate(
    pairs: PairedFolders, methods: list[Results], metrics: tuple[str, ...], out: Path, workers: int
) -> list[str]:
    """Score ``methods`` on ``pairs``, write tables and curves to ``out``; returns a line for each thing missing."""
    problems = [line for results in methods for line in missing_files(results, pairs.names)]
    rows, failures = [], []
    if any(in_summary(kind, metrics) for results in methods for kind in results.files):
        rows, failures = score_all(pairs, methods, metrics, min(workers, len(pairs)))
    if rows:
        summary = summarise(rows)
        write_csv(out / "per_image.csv", rows)
        write_csv(out / "summary.csv", summary)
        write_bytes(out / "summary.md", markdown(summary).encode())
        write_bytes(out / "summary.tex", latex(summary).encode())
        write_bytes(out / "curves.png", cumulative_curves(rows))
        if (figure := trade_off(summary)) is not None:
            write_bytes(out / "trade_off.png", figure)
        print(markdown(summary) + f"\ntables and curves in {out}/")
    return problems + failures


def write_segmentation_table(
    pairs: PairedFolders, methods: list[Results], segmenter: BiSeNet | None, out: Path
) -> list[str]:
    """Write OUT/segmentation.{csv,md,tex}, if there are class maps to score; returns a line for each that failed."""
    files = {results.method: results.files for results in methods}
    rows, problems = score_segmentations(pairs, class_maps(files, segmenter, pairs.num_classes), pairs.num_classes)
    if rows:
        write_csv(out / "segmentation.csv", rows)
        write_bytes(out / "segmentation.md", markdown(rows, higher).encode())
        write_bytes(out / "segmentation.tex", latex(rows, higher).encode())
        print(markdown(rows, higher) + f"\nsegmentation table (IoU) in {out}/")
    return problems


def write_sheets(pairs: PairedFolders, methods: list[Results], out: Path, count: int) -> list[str]:
    """Write OUT/sheets/NAME.png for those of the first ``count`` pairs that all methods fused, with zoomed crops.

    Returns a line for each that could not be made.
    """
    problems = []
    fused = {results.method: results.files.get("fused", {}) for results in methods}
    for index, name in enumerate(pairs.names[:count]):
        if not all(name in files for files in fused.values()):
            continue
        try:
            pair = pairs[index].in_vi_frame()
            images = {"infrared": pair.ir, "visible": pair.vi}
            images |= {method: read_image(files[name]) for method, files in fused.items()}
            if len({image.shape[-2:] for image in images.values()}) > 1:
                raise UserError(f"{name}: no sheet, the images differ in size")
        except UserError as error:
            problems.append(str(error))
            continue
        write_image(out / "sheets" / f"{name}.png", comparison(images, salient_boxes(pair.ir, pair.vi)))
    return problems


def check_methods(methods: list[Results], segmenter: BiSeNet | None, metrics: tuple[str, ...]) -> None:
    """Raise UserError if a table would have two rows of one name, or there would be no table."""
    names = [results.method for results in methods]
    if len(set(names)) < len(names):
        raise UserError("--results: two methods carry the same name")
    if segmenter is not None and not INPUTS.keys().isdisjoint(names):
        raise UserError(f"--results: {' and '.join(INPUTS)} are rows of the segmentation table; use another name")
    kinds = {kind for results in methods for kind in results.files}
    if segmenter is None and "seg" not in kinds and not any(in_summary(kind, metrics) for kind in kinds):
        raise UserError("--metrics none: nothing else is left to score; give --segmenter, or results with seg/")


def has_class_maps(assignment: str) -> bool:
    """Whether the result folder of ``NAME=DIR`` holds seg/, which is scored against the labels."""
    return (Path(assignment.partition("=")[2]) / "seg").is_dir()


def open_pairs(args: argparse.Namespace, num_classes: int) -> PairedFolders:
    if args.dataset_name:
        label = args.segmenter is not None or any(has_class_maps(assignment) for assignment in args.results)
        return test_set(args.data_root, args.dataset_name, num_classes, label)
    return PairedFolders(args.ir, args.vi, label=args.label, num_classes=num_classes)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    metrics = metric_names(args.metrics, args.paper_scale)
    segmenter = load_segmenter(args.segmenter).to(pick_device(args.device)) if args.segmenter else None
    pairs = open_pairs(args, len(CLASSES) if segmenter is None else segmenter.architecture["num_classes"])
    if segmenter is not None and not pairs.has_label:
        raise UserError("--segmenter: the data set has no labels to score against; give --label with --ir and --vi")
    methods = [open_results(assignment, pairs.has_flow, pairs.has_label) for assignment in args.results]
    check_methods(methods, segmenter, metrics)
    check_writable(args.out)
    problems = evaluate(pairs, methods, metrics, args.out, args.workers)
    problems += write_segmentation_table(pairs, methods, segmenter, args.out)
    problems += write_sheets(pairs, methods, args.out, args.sheets)
    if problems:
        raise UserError("\nerror: ".join(dict.fromkeys(problems)))


if __name__ == "__main__":
    run(main)
