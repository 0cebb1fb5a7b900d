"""One registration makes a metric known: to the scores, to the tables and to the curves."""

import pytest
import torch

from utils.figures.curves import trade_off
from utils.figures.tables import direction, latex, markdown
from utils.metrics import alignment, fusion, registration
from utils.metrics.registry import higher, lower


@pytest.mark.parametrize(("register", "arrow", "best"), [(higher, "\u2191", "b"), (lower, "\u2193", "a")])
def test_a_new_metric_needs_one_registration(monkeypatch, register, arrow, best):
    monkeypatch.setitem(fusion.METRICS, "toy", register(lambda ir, vi, fused: (fused - ir).mean()))
    images = [torch.full((48, 48), level) for level in (10.0, 20.0, 40.0)]
    scores = fusion.fusion_metrics(*images)
    assert list(scores)[-1] == "toy" and scores["toy"] == 30
    summary = [{"method": "a", "images": 1, "toy": 1.0, "EN": 3.0}, {"method": "b", "images": 1, "toy": 2.0, "EN": 3.5}]
    table = markdown(summary)
    assert f"| toy {arrow} |" in table
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {best} ")]
    assert row.split("|")[3].strip() == f"**{1 if best == 'a' else 2}.000**"
    assert {"\u2191": r"toy $\uparrow$", "\u2193": r"toy $\downarrow$"}[arrow] in latex(summary)
    assert trade_off(summary).startswith(b"\x89PNG")


def test_metrics_of_registration_and_alignment_register_alike(monkeypatch):
    monkeypatch.setitem(registration.METRICS, "EPE_max", lower(lambda errors: errors.epe.max()))
    monkeypatch.setitem(alignment.METRICS, "align_toy", higher(lambda image, vi: (image * vi).mean()))
    flow = torch.zeros(1, 2, 8, 8)
    assert registration.registration_metrics(flow, flow)["EPE_max"] == pytest.approx(0, abs=1e-6)
    assert alignment.alignment_metrics(torch.ones(8, 8), torch.ones(8, 8))["align_toy"] == 1
    assert direction("EPE_max") == -1 and direction("align_toy_after") == 1
    assert direction("align_toy_before") == direction("anything else") == 0
