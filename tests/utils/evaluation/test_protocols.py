"""The protocol of unlike cameras: the same error whether IR keeps its own size or is resized, and the accepted ones."""

import pytest
import torch

from datasets.paired import Pair
from models.results import Registration
from models.warping import pixel_grid
from utils.evaluation.protocols import as_columns, registration_summary, score
from utils.metrics.cameras import map_positions

VI, IR = (48, 64), (60, 100)  # height, width
TRUE = torch.tensor([[1.4, 0.1, 3], [-0.1, 1.2, 5], [1e-4, 0, 1]], dtype=torch.float64)


def pair():
    return Pair("a", torch.rand(1, *IR), torch.rand(3, *VI), vi_to_ir=TRUE)


def registered(pair, error):
    """The registration of ``pair`` that is off by ``error`` px of VI, in the pixels of its own IR image."""
    moved = torch.tensor([[1, 0, error], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    positions = map_positions(pair.vi_to_ir @ moved, VI)[None].float()
    return Registration(pair.vi[None, :1], positions - pixel_grid(*VI, like=positions), torch.ones(1, 1, *VI))


@pytest.mark.parametrize("own_size", [True, False])
def test_an_error_is_the_same_in_either_frame(own_size):
    given = pair() if own_size else pair().in_vi_frame()
    scores = score(given, registered(given, 0.5), None, ["official"])
    assert scores["cameras"]["after"] == {"error_640": pytest.approx(5, rel=1e-3)}
    # The edge pixels that count are not quite the same.
    before = score(pair(), registered(pair(), 0), None, [])["cameras"]["before"]
    assert scores["cameras"]["before"] == pytest.approx(before, rel=1e-2)
    assert as_columns(scores).keys() == {"error_640_before", "error_640_after"}


def test_the_summary_of_unlike_cameras():
    scores = [score(pair(), registered(pair(), error), None, []) for error in (0.1, 0.4, 4.0)]
    cameras = registration_summary(scores)["registration"]["cameras"]
    assert cameras.keys() == {"before", "after"} and cameras["after"]["within_3px"] == pytest.approx(1 / 3)
    assert cameras["after"]["median_640"] == pytest.approx(4, rel=1e-2)
    decided = registration_summary(scores, [True, True, False])["registration"]["cameras"]["accepted"]
    assert decided["accepted"] == pytest.approx(2 / 3) and decided["accepted_beyond_10px"] == 0
    assert decided["accepted_worst_640"] == pytest.approx(4, rel=1e-2)
