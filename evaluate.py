"""Score fused images, flows, registered images and class maps of any number of methods against a data set.

python evaluate.py --dataset_name MSRS --data_root DIR --results ours=results other=DIR --metrics paper --out scores
python evaluate.py --ir thermal/ --vi visible/ --results ours=results --out scores
python evaluate.py --dataset_name MSRS --data_root DIR --results ours=results --segmenter FILE --out scores

A result folder is one written by test.py, or any folder of fused images, gray or colour, with the file names of the
data set. Pairs of unlike cameras (with a truth.json) are scored by transform/NAME.json or the map_vi2ir of
flow/NAME.npz: shares of the pairs within 3 to 20 px, at a VI width of 640. The only network that runs is --segmenter:
the segmentation table lists the IoU of the classes that it predicts for the visible, the infrared and each method's
fused images, and of the class maps in a method's folder seg/.
"""

import argparse
import os
from pathlib import Path

from datasets.paired import PairSet
from models import BiSeNet, load_segmenter
from utils.classes import CLASSES
from utils.device import pick_device
from utils.errors import UserError, run
from utils.evaluation.data_options import add_data_options, check_data_options, open_pairs, own_files
from utils.evaluation.result_folders import Results, open_results
from utils.evaluation.scoring import in_summary, metric_names, score_methods
from utils.evaluation.segmentation import INPUTS, class_maps, score_segmentations
from utils.figures.sheets import comparison, salient_boxes
from utils.figures.tables import higher, latex, markdown
from utils.files.images import read_result, write_image
from utils.files.results import write_csv
from utils.files.writing import check_apart, check_writable, write_bytes


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_data_options(parser)
    parser.add_argument(
        "--results",
        nargs="+",
        required=True,
        metavar="NAME=DIR",
        help="a method's name and folder: fused images, or subfolders fused/, registered/, flow/, transform/, seg/ "
        "as of test.py",
    )
    parser.add_argument("--suffix", default="", help="take this off the names of result files, such as _fused")
    parser.add_argument("--metrics", default="all", help="all, paper (the paper's six), none, or names: MI,SSIM,...")
    parser.add_argument("--paper_scale", action="store_true", help="add the variants on the scale of tables of 2022")
    parser.add_argument("--segmenter", type=Path, help="BiSeNet weights, ours or SeAFusion's: adds a table of IoU")
    parser.add_argument("--device", default="auto", help="where the segmenter runs: auto, cpu, cuda[:i] or mps")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and curves")
    parser.add_argument("--sheets", type=int, default=0, metavar="N", help="compare the methods on the first N pairs")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default: one per core")
    args = parser.parse_args(argv)
    check_data_options(parser, args)
    if not own_files(args) and args.dataset_name is None:
        parser.error("give either --dataset_name and --data_root, or --ir and --vi")
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


def write_segmentation_table(
    pairs: PairSet, methods: list[Results], segmenter: BiSeNet | None, num_classes: int, out: Path
) -> list[str]:
    """Write OUT/segmentation.{csv,md,tex} if there are class maps to score; returns a line for each failure."""
    files = {results.method: results.files for results in methods}
    rows, problems = score_segmentations(pairs, class_maps(files, segmenter, num_classes), num_classes)
    if rows:
        write_csv(out / "segmentation.csv", rows)
        write_bytes(out / "segmentation.md", markdown(rows, higher).encode())
        write_bytes(out / "segmentation.tex", latex(rows, higher).encode())
        print(markdown(rows, higher) + f"\nsegmentation table (IoU) in {out}/")
    return problems


def write_sheets(pairs: PairSet, methods: list[Results], out: Path, count: int) -> list[str]:
    """Write OUT/sheets/NAME.png, with enlarged crops, for those of the first ``count`` pairs that all methods fused.

    Returns a line for each failure.
    """
    problems = []
    fused = {results.method: results.files.get("fused", {}) for results in methods}
    for index, name in enumerate(pairs.names[:count]):
        if not all(name in files for files in fused.values()):
            continue
        try:
            pair = pairs[index].in_vi_frame()
            images = {"infrared": pair.ir, "visible": pair.vi}
            images |= {method: read_result(files[name])[0] for method, files in fused.items()}
            if len({image.shape[-2:] for image in images.values()}) > 1:
                raise UserError(f"{name}: no sheet, the images differ in size")
        except UserError as error:
            problems.append(str(error))
            continue
        write_image(out / "sheets" / f"{name}.png", comparison(images, salient_boxes(pair.ir, pair.vi)))
    return problems


def check_methods(methods: list[Results], segmenter: BiSeNet | None, metrics: tuple[str, ...]) -> None:
    """Raise UserError if two rows of a table would have the same name, or if there would be no table."""
    names = [results.method for results in methods]
    if len(set(names)) < len(names):
        raise UserError("--results: two methods carry the same name")
    if segmenter is not None and not INPUTS.keys().isdisjoint(names):
        raise UserError(f"--results: {' and '.join(INPUTS)} are rows of the segmentation table; use another name")
    kinds = {kind for results in methods for kind in results.files}
    if segmenter is None and "seg" not in kinds and not any(in_summary(kind, metrics) for kind in kinds):
        raise UserError("--metrics none: nothing else is left to score; give --segmenter, or results with seg/")


def check_inputs_apart(args: argparse.Namespace, pairs: PairSet, methods: list[Results]) -> None:
    """Raise UserError if ``--out`` is a result folder, or one of the files that are written an input."""
    folders = [Path(assignment.partition("=")[2]) for assignment in args.results]
    results = [path for method in methods for files in method.files.values() for path in files.values()]
    given = (args.ir, args.vi, args.rgbt, args.label, args.pairs, args.segmenter)
    check_apart([*folders, *results, *pairs.sources, *given], [args.out / "sheets"], [args.out])


def has_class_maps(assignment: str) -> bool:
    """Tell whether the result folder of ``NAME=DIR`` holds seg/, which is scored against the labels."""
    return (Path(assignment.partition("=")[2]) / "seg").is_dir()


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    metrics = metric_names(args.metrics, args.paper_scale)
    segmenter = load_segmenter(args.segmenter).to(pick_device(args.device)) if args.segmenter else None
    num_classes = len(CLASSES) if segmenter is None else segmenter.architecture["num_classes"]
    labels = segmenter is not None or any(has_class_maps(assignment) for assignment in args.results)
    pairs = open_pairs(args, num_classes, labels)
    if segmenter is not None and not pairs.has_label:
        raise UserError("--segmenter: the data set has no labels to score against; give --label with --ir and --vi")
    methods = [
        open_results(assignment, pairs.has_flow, pairs.has_label, has_true_map=pairs.has_vi_to_ir, suffix=args.suffix)
        for assignment in args.results
    ]
    check_methods(methods, segmenter, metrics)
    check_inputs_apart(args, pairs, methods)
    check_writable(args.out)
    problems = score_methods(pairs, methods, metrics, args.out, args.workers)
    problems += write_segmentation_table(pairs, methods, segmenter, num_classes, args.out)
    problems += write_sheets(pairs, methods, args.out, args.sheets)
    if problems:
        raise UserError("\nerror: ".join(dict.fromkeys(problems)))


if __name__ == "__main__":
    run(main)
