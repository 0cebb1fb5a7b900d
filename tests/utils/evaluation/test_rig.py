"""The map that pairs of one rig share: found despite a wrong map, measured in IR's pixels, and saved for use."""

from dataclasses import replace

import pytest
import torch

from models.registration.transform import Transform
from utils.errors import UserError
from utils.evaluation.rig import distance, main, shared_map

TRUE = torch.tensor([[0.5, 0.02, 10], [-0.02, 0.5, 5], [1e-5, 0, 1]], dtype=torch.float64)
VI, IR = (1280, 720), (640, 512)


def shifted(x: float) -> Transform:
    """The true map of the rig, moved by ``x`` pixels of IR."""
    shift = torch.tensor([[1, 0, x], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    return Transform(shift @ TRUE, VI, IR)


def test_a_wrong_map_does_not_move_the_shared_one():
    shared = shared_map([shifted(x) for x in (-2, -1, 0, 1, 200)])
    assert torch.allclose(shared.vi_to_ir, TRUE, rtol=1e-3, atol=1e-6)
    assert distance(shifted(3), shared) == pytest.approx(3, rel=1e-3)


def test_pairs_of_a_rig_and_what_is_saved(tmp_path, capsys):
    for name, x in (("a", -1), ("b", 0), ("c", 1.5)):
        shifted(x).save(tmp_path / "maps" / f"{name}.json")
    replace(shifted(90), accepted=False, confidence=0.1).save(tmp_path / "maps" / "d.json")
    main([str(tmp_path / "maps"), "--save", str(tmp_path / "rig.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "c: accepted, confidence 1.00, 1.5 px of IR off"
    assert lines[3] == "d: refused, confidence 0.10, 90.0 px of IR off"
    assert "accepted 3 of 4" in lines[4] and "1.0 px" in lines[4] and "1.5 at most" in lines[4]
    assert torch.allclose(Transform.load(tmp_path / "rig.json").vi_to_ir, TRUE, rtol=1e-3, atol=1e-6)


def test_what_is_no_rig_is_refused(tmp_path):
    with pytest.raises(UserError, match="no transforms"):
        main([str(tmp_path)])
    replace(shifted(0), accepted=False).save(tmp_path / "a.json")
    with pytest.raises(UserError, match="every pair was refused"):
        main([str(tmp_path)])
    Transform.of_frames((64, 48), (64, 48)).save(tmp_path / "b.json")
    with pytest.raises(UserError, match="differ in size"):
        main([str(tmp_path)])
