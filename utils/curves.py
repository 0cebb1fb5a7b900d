"""The paper's quantitative figure: for each metric the cumulative distribution curve of every method.

A point (x, y) of a curve says that the share x of the images has values of at most y; the legend gives the means.
"""

import io
import math
import statistics

from utils.tables import arrow, direction, metric_columns

_MARKERS = "os^Dv<>pX*"
_MARKED = 12  # markers on a curve of many images
_LEGEND_LINE = 0.08  # height of a line of the legend as a share of the panel


def cumulative_curves(rows: list[dict]) -> bytes:
    """Draw per-image rows ``{"method", "name", metric: value, ...}``, one panel a metric that ranks; returns a PNG."""
    # Imported here: the processes that score images import this module and never draw.
    from matplotlib.figure import Figure

    metrics = [metric for metric in metric_columns(rows) if direction(metric)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    columns = min(len(metrics), 3 if len(metrics) <= 9 else 4)
    figure = Figure(figsize=(4.2 * columns, 3.4 * math.ceil(len(metrics) / columns)), layout="constrained")
    for index, metric in enumerate(metrics, start=1):
        panel = figure.add_subplot(math.ceil(len(metrics) / columns), columns, index)
        for number, method in enumerate(methods):
            values = [row[metric] for row in rows if row["method"] == method and metric in row]
            if values:
                _draw(panel, number, f"{method}: {statistics.fmean(values):.4g}", values)
        _finish(panel, metric + arrow(metric))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _draw(panel, number: int, label: str, values: list[float]) -> None:
    """The curve of the method of this ``number``, which decides its colour and marker in every panel."""
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
    """Axes, and a legend in free space above the curves."""
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
