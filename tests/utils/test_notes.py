"""Notes are written once each, and at the end for how many files they hold."""

from utils.notes import Notes


def test_each_note_once_and_a_count_at_the_end():
    lines = []
    notes = Notes(lines.append)
    for name in ("a", "b", "c"):
        notes.tell(name, ["in false colours"] + (["has holes"] if name == "b" else []))
    assert lines == ["note: a: in false colours", "note: b: has holes"]
    notes.close()
    assert lines[2:] == ["note: 2 more: in false colours"]
