"""A refused pair is told what its evidence lacks."""

from datasets.toy import toy_scene
from models.registration.decision import Evidence
from models.registration.reasons import why_refused
from models.registration.transform import Transform

GOOD = dict(correlation=0.35, lead=3.0, support=0.9, overlap=3.2)


def test_the_weakest_evidence_is_what_lowers_the_confidence_most():
    for name, value in (("correlation", 0.1), ("lead", 0.0), ("support", 0.2), ("overlap", -2.0)):
        assert Evidence(**(GOOD | {name: value})).weakest() == name


def test_reasons():
    first, other = toy_scene(0, 96, 128), toy_scene(1, 96, 128)
    frames = Transform.of_frames((128, 96), (128, 96))
    assert "hardly agree" in why_refused(first.ir[None], other.vi[None], frames)
    assert why_refused(first.ir[None] * 0 + 0.5, first.vi[None], frames).startswith("IR is nearly constant")
