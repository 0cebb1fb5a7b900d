"""The plot of a training run's course has a panel for each score, in hours."""

import io

import matplotlib.figure
from PIL import Image

from utils.figures.curves import course


def test_the_course_of_a_run(monkeypatch):
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k)
    )
    rows = [dict(step=10 * i, minutes=30 * i, EPE_official=9 - i, EPE_band_free=7 - i) for i in (1, 2, 3)]
    with Image.open(io.BytesIO(course(rows))) as image:
        assert image.format == "PNG"
    lines = {panel.get_title(): panel.get_lines()[0] for panel in figures[0].axes}
    assert list(lines) == ["EPE_official", "EPE_band_free"]
    assert list(lines["EPE_band_free"].get_xdata()) == [0.5, 1.0, 1.5]
    assert list(lines["EPE_band_free"].get_ydata()) == [6, 5, 4]
