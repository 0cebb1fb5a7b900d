"""Score the result folders of any number of methods on a data set, and write tables and curves."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from datasets.paired import Pair, PairSet
from models.registration import Transform
from utils.errors import UserError
from utils.evaluation.result_folders import Results, missing_files, read_estimated_flow
from utils.figures.curves import cumulative_curves, trade_off
from utils.figures.tables import latex, markdown, summarise
from utils.files.images import read_result
from utils.files.results import write_csv
from utils.files.writing import write_bytes
from utils.metrics.alignment import alignment_metrics
from utils.metrics.cameras import camera_metrics, fitted_frames, summarise_accepted, summarise_errors
from utils.metrics.fusion import METRICS, PAPER, PAPER_SCALE, fusion_metrics, gray_levels
from utils.metrics.registration import registration_metrics
from utils.notes import Notes

# The row of unlike cameras before registration, with IR's frame scaled onto VI's.
AS_GIVEN = "as given"


def metric_names(choice: str, paper_scale: bool = False) -> tuple[str, ...]:
    """Return the names of the fusion metrics that ``--metrics`` selects; raises UserError for unknown names."""
    names = {"all": tuple(METRICS), "paper": PAPER, "none": ()}.get(choice, tuple(choice.split(",")))
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        known = ", ".join(METRICS)
        raise UserError(f"--metrics: unknown {', '.join(unknown)}; use all, paper, none or names of {known}")
    return names + (tuple(PAPER_SCALE) if paper_scale else ())


def in_summary(kind: str, metrics: tuple[str, ...]) -> bool:
    """Tell whether files of ``kind`` are scored per image; class maps are scored over all images together."""
    return kind != "seg" and (kind != "fused" or bool(metrics))


def score_file(kind: str, path: Path, pair: Pair, metrics: tuple[str, ...]) -> tuple[dict[str, float], list[str]]:
    """Score one result file of ``kind``; returns values by column, and lines to tell the user of the file.

    ``pair`` is in VI's frame but for a true map.
    """
    if pair.vi_to_ir is not None:
        return score_map(kind, path, pair), []
    if kind == "flow":
        return registration_metrics(read_estimated_flow(path)[None], pair.flow[None]), []
    result, lines = read_result(path)
    if kind == "fused":
        return fusion_metrics(gray_levels(pair.ir), gray_levels(pair.vi), gray_levels(result), metrics), lines
    images = {"before": pair.ir if pair.ir_warp is None else pair.ir_warp, "after": result}
    scores = {when: alignment_metrics(gray_levels(image), gray_levels(pair.vi)) for when, image in images.items()}
    return {f"{name}_{when}": value for when, values in scores.items() for name, value in values.items()}, lines


def score_map(kind: str, path: Path, pair: Pair) -> dict[str, float]:
    """Score a transform, or the ``map_vi2ir`` of a flow file, against the true map; returns values by column."""
    (vi_height, vi_width), ir_size = pair.vi.shape[-2:], pair.ir.shape[-2:]
    decision = {}
    if kind == "transform":
        transform = Transform.load(path)
        if (*transform.vi_size, *transform.ir_size) != (vi_width, vi_height, ir_size[1], ir_size[0]):
            raise ValueError("vi_size and ir_size are not those of the data set's images")
        positions, decision = transform.map_vi2ir(), {"accepted": float(transform.accepted)}
    else:
        positions = read_estimated_flow(path, "map_vi2ir")
        if positions.shape != (2, vi_height, vi_width):
            raise ValueError(f"map_vi2ir has shape {tuple(positions.shape)}, not {(2, vi_height, vi_width)}")
    return camera_metrics(positions, pair.vi_to_ir, ir_size) | decision


def score_pair(
    pairs: PairSet, methods: list[Results], metrics: tuple[str, ...], index: int
) -> tuple[list[dict], list[str], dict[str, list[str]]]:
    """Score all methods on one pair; returns a row for each method, a line for each file that failed, and by the name
    of the pair or the file what to tell the user.

    A pair with a true map adds a row "as given", before registration.
    """
    name = pairs.names[index]
    try:
        pair = pairs[index]
        if pair.vi_to_ir is None:
            pair = pair.in_vi_frame()
            rows = []
        else:
            frames = fitted_frames(pair.vi.shape[-2:], pair.ir.shape[-2:])
            rows = [{"method": AS_GIVEN, "name": name} | camera_metrics(frames, pair.vi_to_ir, pair.ir.shape[-2:])]
    except (UserError, ValueError) as error:
        return [], [str(error) if isinstance(error, UserError) else f"{name}: {error}"], {}
    problems, notes = [], {name: pair.notes}
    for results in methods:
        row = {}
        for kind, files in results.files.items():
            if name not in files or not in_summary(kind, metrics):
                continue
            try:
                columns, lines = score_file(kind, files[name], pair, metrics)
                row |= columns
                notes[str(files[name])] = lines
            except UserError as error:
                problems.append(str(error))
            except ValueError as error:
                problems.append(f"{files[name]}: {error}")
        if row:
            rows.append({"method": results.method, "name": name} | row)
    return rows, problems, notes


def score_all(
    pairs: PairSet, methods: list[Results], metrics: tuple[str, ...], workers: int, told: bool
) -> tuple[list[dict], list[str]]:
    """Score every pair, in several processes if ``workers`` > 1; rows are sorted by method, then name."""
    score = partial(score_pair, pairs, methods, metrics)
    bar = partial(tqdm, total=len(pairs), unit="pair", disable=None)
    if workers == 1:
        scored = list(bar(map(score, range(len(pairs)))))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            scored = list(bar(pool.map(score, range(len(pairs)))))
    rows = [row for pair_rows, _, _ in scored for row in pair_rows]
    notes = Notes(partial(print, file=sys.stderr))
    for name, lines in (item for _, _, found in scored for item in found.items()):
        if not (told and name in pairs.names):
            notes.tell(name, lines)
    notes.close()
    order = {method: rank for rank, method in enumerate([AS_GIVEN, *(results.method for results in methods)])}
    return sorted(rows, key=lambda row: order[row["method"]]), [line for _, lines, _ in scored for line in lines]


def camera_summary(method: str, rows: list[dict]) -> dict[str, float | None]:
    """Summarise the errors of a ``method`` on unlike cameras, and those of the pairs it accepted; empty without any."""
    own = [row for row in rows if row["method"] == method and "error_640" in row]
    if not own:
        return {}
    errors = [row["error_640"] for row in own]
    summary = summarise_errors(errors)
    if all("accepted" in row for row in own):
        summary |= summarise_accepted(errors, [row["accepted"] > 0 for row in own])
    return summary


def score_methods(
    pairs: PairSet, methods: list[Results], metrics: tuple[str, ...], out: Path, workers: int, told: bool = False
) -> list[str]:
    """Score ``methods`` on ``pairs``, write tables and curves to ``out``; returns a line per missing or bad file.

    What there is to tell of the pairs is printed unless the user was ``told`` already.
    """
    problems = [line for results in methods for line in missing_files(results, pairs.names)]
    rows, failures = [], []
    if any(in_summary(kind, metrics) for results in methods for kind in results.files):
        rows, failures = score_all(pairs, methods, metrics, min(workers, len(pairs)), told)
    if rows:
        means = summarise(rows)
        summary = [line | camera_summary(line["method"], rows) for line in means]
        write_csv(out / "per_image.csv", rows)
        write_csv(out / "summary.csv", summary)
        write_bytes(out / "summary.md", markdown(summary).encode())
        write_bytes(out / "summary.tex", latex(summary).encode())
        write_bytes(out / "curves.png", cumulative_curves(rows))
        if (figure := trade_off(means)) is not None:
            write_bytes(out / "trade_off.png", figure)
        print(markdown(summary) + f"\ntables and curves in {out}/")
    return problems + failures
