"""The plot of the course of training runs has a panel for each score, in hours, and a line for each run."""

import io

import matplotlib.figure
import pytest
from PIL import Image

from utils.errors import UserError
from utils.figures.curves import course, main
from utils.files.results import write_csv


@pytest.fixture
def figures(monkeypatch):
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k)
    )
    return figures


def validations(*scores):
    return [dict(step=10 * i, minutes=30 * i) | {score: 9 - i for score in scores} for i in (1, 2, 3)]


def test_the_course_of_a_run(figures):
    rows = [dict(step=10 * i, minutes=30 * i, EPE_official=9 - i, EPE_band_free=7 - i) for i in (1, 2, 3)]
    with Image.open(io.BytesIO(course({"run": rows}))) as image:
        assert image.format == "PNG"
    lines = {panel.get_title(): panel.get_lines()[0] for panel in figures[0].axes}
    assert list(lines) == ["EPE_official", "EPE_band_free"]
    assert list(lines["EPE_band_free"].get_xdata()) == [0.5, 1.0, 1.5]
    assert list(lines["EPE_band_free"].get_ydata()) == [6, 5, 4]
    assert not figures[0].legends


def test_runs_are_drawn_together(tmp_path, figures):
    write_csv(tmp_path / "a.csv", validations("EPE_official", "MI"))
    write_csv(tmp_path / "b.csv", validations("EPE_official"))
    main([str(tmp_path / "out.png"), f"lr=1={tmp_path}/a.csv", f"other={tmp_path}/b.csv"])
    with Image.open(tmp_path / "out.png") as image:
        assert image.format == "PNG"
    (panel,) = figures[0].axes
    assert panel.get_title().startswith("EPE_official") and len(panel.get_lines()) == 2
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["lr=1", "other"]


def test_what_is_no_course(tmp_path):
    (tmp_path / "text.csv").write_text("step,minutes,MI\n1,2,many\n")
    write_csv(tmp_path / "a.csv", validations("MI"))
    write_csv(tmp_path / "b.csv", validations("mIoU"))
    for runs, line in (
        (["a=text.csv"], "text.csv: not the validation.csv"),
        (["a=missing.csv"], "missing.csv: not the validation.csv"),
        (["a.csv"], "write it as NAME=.*a.csv"),
        (["a=a.csv", "b=b.csv"], "a, b: no score"),
    ):
        named = [entry.replace("=", f"={tmp_path}/") for entry in runs]
        with pytest.raises(UserError, match=line):
            main([str(tmp_path / "out.png"), *named])
    assert not (tmp_path / "out.png").exists()
