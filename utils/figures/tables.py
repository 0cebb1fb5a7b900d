"""Summary tables: the mean of every metric per method, in Markdown and LaTeX, best in bold, second underlined.

Ranks follow the printed values, so methods that look equal share a mark. A summary row is a dictionary
``{"method": name, "images": count, metric: mean, ...}``; the key of a metric is absent or None if it was not computed.
"""

import math
from collections.abc import Callable

from utils.files.results import means
from utils.metrics import alignment, cameras, fusion, registration

_DIGITS = 4  # significant digits of a column's largest value
_DECIMALS = 5  # the largest number of decimals

_LATEX_SPECIAL = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
    }
)

Direction = Callable[[str], int]


def direction(metric: str) -> int:
    """Return a metric's direction: 1 if higher is better, -1 if lower is better, 0 for a value that does not rank.

    Of values before and after registration ("..._before", "..._after") only the latter rank.
    """
    entries = fusion.METRICS | fusion.PAPER_SCALE | registration.METRICS | alignment.METRICS
    entries |= cameras.METRICS | cameras.SUMMARY | cameras.ACCEPTED
    entry = entries.get(metric.removesuffix("_after"))
    return entry.direction if entry else 0


def higher(metric: str) -> int:
    """Return 1 for every metric: the direction in a table of IoU, for example."""
    return 1


def arrow(metric: str, better: Direction = direction) -> str:
    """Return the arrow that a heading appends to the metric's name."""
    return {1: " ↑", -1: " ↓", 0: ""}[better(metric)]


def metric_columns(rows: list[dict]) -> list[str]:
    """List the metrics of per-image or summary rows in order of first appearance."""
    return [key for key in dict.fromkeys(k for row in rows for k in row) if key not in ("method", "name", "images")]


def summarise(rows: list[dict]) -> list[dict]:
    """Average per-image rows ``{"method", "name", metric: value, ...}`` per method, in order of first appearance."""
    summary = []
    for method in dict.fromkeys(row["method"] for row in rows):
        method_rows = [row for row in rows if row["method"] == method]
        line = {"method": method, "images": len(method_rows)}
        for metric in metric_columns(method_rows):
            line |= means([row for row in method_rows if metric in row], [metric])
        summary.append(line)
    return summary


def markdown(summary: list[dict], better: Direction = direction) -> str:
    """Format the summary as a Markdown table, methods in rows."""
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    metrics = metric_columns(summary)
    columns = [_column(summary, metric, better(metric), marks, missing="–") for metric in metrics]
    lines = [["method", "images"] + [metric + arrow(metric, better) for metric in metrics]]
    lines += [["---"] + ["---:"] * (len(metrics) + 1)]
    for row, *cells in zip(summary, *columns):
        lines.append([row["method"].replace("|", r"\|"), str(row["images"]), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(summary: list[dict], better: Direction = direction) -> str:
    """Format the summary as a LaTeX ``tabular`` with booktabs rules, methods in rows."""
    marks = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
    metrics = metric_columns(summary)
    columns = [_column(summary, metric, better(metric), marks, missing="--") for metric in metrics]
    heads = ["Method", "Images"] + [(metric + arrow(metric, better)).translate(_LATEX_SPECIAL) for metric in metrics]
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(metrics) + 1)}}}", r"\toprule"]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for row, *cells in zip(summary, *columns):
        lines.append(" & ".join([row["method"].translate(_LATEX_SPECIAL), str(row["images"]), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _column(summary: list[dict], metric: str, better: int, marks: dict[int, str], missing: str) -> list[str]:
    """Format the cells of one metric of direction ``better``; ``marks`` maps rank 1, 2 and 0 (others) to formats."""
    values = [row.get(metric) for row in summary]
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0)
    decimals = _DIGITS - 1 - (math.floor(math.log10(largest)) if largest else 0)
    printed = [None if v is None else f"{v:.{min(max(decimals, 0), _DECIMALS)}f}" for v in values]
    known = {float(text) for text in printed if text is not None}
    # A single method is neither the best nor the worst.
    ranked = sorted(known, reverse=better > 0)[:2] if better and len(known) > 1 else []
    ranks = {value: rank for rank, value in enumerate(ranked, start=1)}
    return [missing if text is None else marks[ranks.get(float(text), 0)].format(text) for text in printed]
