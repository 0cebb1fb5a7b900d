"""Plots of metrics: the cumulative distribution of every method (as in the paper), trade-offs between metrics, and the
course of training runs.

python -m utils.figures.curves OUT.png NAME=RUN/validation.csv ...      several runs in one plot

A point (x, y) of a cumulative curve means that a share x of the images has values of at most y; the legend lists the
means. In a trade-off each point is a method, at its means of the first and of another metric.
"""

import argparse
import csv
import io
import math
import statistics
from collections.abc import Mapping
from pathlib import Path

from utils.errors import UserError, run
from utils.figures.tables import arrow, direction, metric_columns
from utils.files.writing import write_bytes

_MARKERS = "os^Dv<>pX*"
_MARKED = 12  # number of markers on a curve of many images
_LEGEND_LINE = 0.08  # height of a legend line relative to the panel


def cumulative_curves(rows: list[dict]) -> bytes:
    """Plot per-image rows ``{"method", "name", metric: value, ...}``, one panel per ranking metric; returns a PNG."""
    # Imported here because the processes that score images import this module but never plot.
    from matplotlib.figure import Figure

    metrics = [metric for metric in metric_columns(rows) if direction(metric)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(layout="constrained")
    for metric, panel in zip(metrics, _panels(figure, len(metrics))):
        for number, method in enumerate(methods):
            values = [row[metric] for row in rows if row["method"] == method and metric in row]
            if values:
                _draw(panel, number, f"{method}: {statistics.fmean(values):.4g}", values)
        _finish(panel, metric + arrow(metric))
    return _png(figure)


def trade_off(summary: list[dict]) -> bytes | None:
    """Plot summary rows ``{"method", "images", metric: mean, ...}``, one point per method, joined in row order.

    The first ranking metric is on the x axis of all panels, each other one on the y axis of its own panel. Returns a
    PNG, or None for fewer than two methods or metrics.
    """
    from matplotlib.figure import Figure

    rank = [metric for metric in metric_columns(summary) if direction(metric)]
    if len(summary) < 2 or len(rank) < 2:
        return None
    first, *others = rank
    figure = Figure(layout="constrained")
    for metric, panel in zip(others, _panels(figure, len(others))):
        xs, ys = ([math.nan if row.get(name) is None else row[name] for row in summary] for name in (first, metric))
        panel.plot(xs, ys, color="0.7", linewidth=1)
        for number, (row, x, y) in enumerate(zip(summary, xs, ys)):
            look = dict(color=f"C{number % 10}", marker=_MARKERS[number % len(_MARKERS)], linestyle="none")
            panel.plot(x, y, label=row["method"], **look)
        panel.set_xlabel(first + arrow(first), fontsize=9)
        panel.set_title(metric + arrow(metric), fontsize=11)
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=8)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    return _png(figure)


def course(runs: Mapping[str, list[dict[str, float]]]) -> bytes:
    """Plot the validations ``{"step", "minutes", score: value, ...}`` of ``runs`` by name, against hours; a PNG.

    There is a panel for each score that all runs have, and a legend if there are several runs. Raises UserError for
    runs without a common score.
    """
    from matplotlib.figure import Figure

    first, *others = runs.values()
    scores = [name for name in first[0] if name not in ("step", "minutes") and all(name in rows[0] for rows in others)]
    if not scores:
        raise UserError(f"{', '.join(runs)}: no score that all these runs have")
    figure = Figure(layout="constrained")
    for score, panel in zip(scores, _panels(figure, len(scores))):
        for name, validations in runs.items():
            hours = [row["minutes"] / 60 for row in validations]
            panel.plot(hours, [row[score] for row in validations], "o-", markersize=4, linewidth=1.4, label=name)
        panel.set_title(score + arrow(score), fontsize=11)
        panel.set_xlabel("hours of training", fontsize=9)
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=8)
    if others:
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return _png(figure)


def read_course(path: Path) -> list[dict[str, float]]:
    """Read the validation.csv of a training run, for :func:`course`; raises UserError if it is not one."""
    try:
        with path.open(newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:  # TypeError: a row without a value for each column
        raise UserError(f"{path}: not the validation.csv of a training run ({error})") from error
    if not rows or not {"step", "minutes"} < rows[0].keys():
        raise UserError(f"{path}: not the validation.csv of a training run (no rows of step, minutes and scores)")
    return rows


def _panels(figure, count: int) -> list:
    """Add ``count`` panels to ``figure``, in rows of three or four."""
    columns = min(count, 3 if count <= 9 else 4)
    rows = math.ceil(count / columns)
    figure.set_size_inches(4.2 * columns, 3.4 * rows)
    return [figure.add_subplot(rows, columns, index) for index in range(1, count + 1)]


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _draw(panel, number: int, label: str, values: list[float]) -> None:
    """Draw the curve of a method, whose ``number`` determines its colour and marker in every panel."""
    panel.plot(
        [(rank + 1) / len(values) for rank in range(len(values))],
        sorted(values),
        color=f"C{number % 10}",
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=4,
        markevery=math.ceil(len(values) / _MARKED),
        linewidth=1.4,
        label=label,
    )


def _finish(panel, title: str) -> None:
    """Format the axes, and place the legend in free space above the curves."""
    curves = len(panel.get_lines())
    columns = 1 if curves <= 4 else 2
    low, high = panel.get_ylim()
    panel.set_ylim(low, low + (high - low) / (1 - 0.04 - _LEGEND_LINE * math.ceil(curves / columns)))
    panel.legend(loc="upper left", fontsize=8, ncols=columns, framealpha=1, borderaxespad=0.4)
    panel.set_title(title, fontsize=11)
    panel.set_xlabel("share of images", fontsize=9)
    panel.set_xlim(0, 1.02)
    panel.grid(alpha=0.3)
    panel.tick_params(labelsize=8)


def main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description="Plot the validations of training runs against hours.")
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("runs", nargs="+", metavar="NAME=CSV", help="a name, and the run's validation.csv")
    args = parser.parse_args(argv)
    runs = {}
    for entry in args.runs:
        name, equals, path = entry.rpartition("=")
        if not equals:
            raise UserError(f"{entry}: write it as NAME={entry}")
        runs[name] = read_course(Path(path))
    write_bytes(args.out, course(runs))


if __name__ == "__main__":
    run(main)
