"""Score results against a data set: fused images, flows and registered images of any number of methods.

python evaluate.py --dataset_name MSRS --data_root DIR --results ours=results other=DIR --metrics paper --out scores
python evaluate.py --ir thermal/ --vi visible/ --results ours=results --out scores

No network runs. A result folder is one that test.py wrote, or any folder of fused images, gray or colour, that carry
the names of the data set's images.
"""

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.paired import Pair, PairedFolders, images_by_stem, test_set
from utils.curves import cumulative_curves
from utils.errors import UserError, run
from utils.images import check_writable, read_image, write_bytes, write_image
from utils.metrics.alignment import alignment_metrics
from utils.metrics.fusion import METRICS, PAPER, PAPER_SCALE, fusion_metrics, gray_levels
from utils.metrics.registration import registration_metrics
from utils.plots import comparison, salient_boxes
from utils.results import write_csv
from utils.tables import latex, markdown, summarise


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset_name", help="a test set below --data_root, such as MSRS or RoadScene")
    parser.add_argument("--data_root", type=Path, help="holds NAME/test/{ir,vi,...} or the authors' test/NAME/")
    parser.add_argument("--ir", type=Path, help="a folder of infrared images, aligned with those of --vi")
    parser.add_argument("--vi", type=Path, help="a folder of visible images")
    parser.add_argument(
        "--results",
        nargs="+",
        required=True,
        metavar="NAME=DIR",
        help="a method's name and its folder: fused images, or subfolders fused/, registered/, flow/ as of test.py",
    )
    parser.add_argument("--metrics", default="all", help="all, paper (the paper's six) or names: MI,SSIM,...")
    parser.add_argument("--paper_scale", action="store_true", help="add the variants on the scale of tables of 2022")
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
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


def metric_names(choice: str, paper_scale: bool = False) -> tuple[str, ...]:
    """The fusion metrics that ``--metrics`` asks for; UserError names those that do not exist."""
    names = {"all": tuple(METRICS), "paper": PAPER}.get(choice) or tuple(choice.split(","))
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UserError(f"--metrics: unknown {', '.join(unknown)}; use all, paper or names of {', '.join(METRICS)}")
    return names + (tuple(PAPER_SCALE) if paper_scale else ())


KINDS = ("fused", "registered", "flow")


@dataclass(frozen=True)
class Results:
    """What one method left: for each kind ("fused", "flow", "registered") the files by stem."""

    method: str
    files: dict[str, dict[str, Path]]


def open_results(assignment: str, has_true_flow: bool, kinds: Sequence[str] = KINDS) -> Results:
    """Find the files of ``NAME=DIR``, of these ``kinds``. Registered images count only where flows cannot be scored."""
    method, separator, folder = assignment.partition("=")
    if not (method and separator and folder):
        raise UserError(f"--results {assignment}: write NAME=DIR")
    folder = Path(folder)
    parts = {kind: folder / kind for kind in kinds if (folder / kind).is_dir()}
    if not parts:
        return Results(method, {"fused": images_by_stem(folder)})
    flow = parts.pop("flow", None)
    score_flow = flow is not None and has_true_flow
    if score_flow:
        parts.pop("registered", None)
    files = {kind: images_by_stem(path) for kind, path in parts.items()}
    if score_flow:
        files["flow"] = {path.stem: path for path in flow.glob("*.npz")}
    if not files:
        raise UserError(f"{folder}: holds flows only, and the data set has no true flow to score them against")
    return Results(method, files)


def missing_files(results: Results, names: list[str]) -> list[str]:
    """One line for each kind of file that ``results`` lacks for some of the data set's ``names``."""
    lines = []
    for kind, files in results.files.items():
        missing = [name for name in names if name not in files]
        if len(missing) == len(names):
            lines.append(f"{results.method}: no {kind} file carries a name of the data set, such as {names[0]}")
        elif missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} others" if len(missing) > 5 else "")
            lines.append(f"{results.method}: no {kind} file for {shown}")
    return lines


def read_estimated_flow(path: Path) -> Tensor:
    """``flow_ir2vi`` ``(2, H, W)`` in pixels of a file of ``test.py --save_flow``."""
    try:
        with np.load(path) as content:
            return torch.from_numpy(content["flow_ir2vi"].astype(np.float32))
    except Exception as error:  # NumPy raises half a dozen unrelated kinds for a damaged file
        raise UserError(f"{path}: not a readable .npz file with the key 'flow_ir2vi'") from error


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
            if name not in files:
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
    rows, failures = score_all(pairs, methods, metrics, min(workers, len(pairs)))
    if rows:
        summary = summarise(rows)
        write_csv(out / "per_image.csv", rows)
        write_csv(out / "summary.csv", summary)
        write_bytes(out / "summary.md", markdown(summary).encode())
        write_bytes(out / "summary.tex", latex(summary).encode())
        write_bytes(out / "curves.png", cumulative_curves(rows))
        print(markdown(summary) + f"\ntables and curves in {out}/")
    return problems + failures


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


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    metrics = metric_names(args.metrics, args.paper_scale)
    pairs = test_set(args.data_root, args.dataset_name) if args.dataset_name else PairedFolders(args.ir, args.vi)
    methods = [open_results(assignment, pairs.has_flow) for assignment in args.results]
    if len({results.method for results in methods}) < len(methods):
        raise UserError("--results: two methods carry the same name")
    check_writable(args.out)
    problems = evaluate(pairs, methods, metrics, args.out, args.workers)
    problems += write_sheets(pairs, methods, args.out, args.sheets)
    if problems:
        raise UserError("\nerror: ".join(dict.fromkeys(problems)))


if __name__ == "__main__":
    run(main)
