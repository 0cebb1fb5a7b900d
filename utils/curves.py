"""The paper's quantitative figure: for each metric the cumulative distribution curve of every method.

A point (x, y) of a curve says that the share x of the images has values of at most y; the legend gives the means.
"""

import io
import math
import statistics
from itertools import cycle

from utils.tables import direction, metric_columns

_MARKERS = "os^Dv<>pX*"
_POINTS = 12  # markers on a curve of many images


def cumulative_curves(rows: list[dict]) -> bytes:
    """Draw per-image rows ``{"method", "name", metric: value, ...}``, one panel a metric; returns a PNG file."""
    # Imported here: the processes that score images import this module and never draw.
    from matplotlib.figure import Figure

    metrics = metric_columns(rows)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    columns = min(len(metrics), 3 if len(metrics) <= 9 else 4)
    lines = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel, metric in zip(panels, metrics):
        _draw(panel, metric, {m: [row[metric] for row in rows if row["method"] == m and metric in row] for m in methods})
    for panel in list(panels):
        panel.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _draw(panel, metric: str, values: dict[str, list[float]]) -> None:
    """One metric: ``values`` by method, a method's colour and marker the same in every panel."""
    for index, ((method, own), marker) in enumerate(zip(values.items(), cycle(_MARKERS))):
        if not own:
            continue
        shares = [(rank + 1) / len(own) for rank in range(len(own))]
        panel.plot(
            shares,
            sorted(own),
            color=f"C{index % 10}",
            marker=marker,
            markersize=4,
            markevery=math.ceil(len(own) / _POINTS),
            linewidth=1.4,
            label=f"{method}: {statistics.fmean(own):.4g}",
        )
    panel.set_title(metric + {1: " ↑", -1: " ↓", 0: ""}[direction(metric)], fontsize=11)
    panel.set_xlabel("Cumulative distribution", fontsize=9)
    panel.set_ylabel("Value of the metric", fontsize=9)
    panel.set_xlim(0, 1.02)
    panel.grid(alpha=0.3)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=8, framealpha=0.8)
