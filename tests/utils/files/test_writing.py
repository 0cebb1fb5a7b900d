"""Files are written whole or not at all, whatever their names, and never over an input."""

import pytest

from utils.errors import UserError
from utils.files.writing import check_apart, write_bytes


@pytest.fixture
def folders(tmp_path):
    """An input vi/a.png, and a result folder out/ with fused/."""
    for name in ("vi", "out/fused"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "vi" / "a.png").write_bytes(b"picture")
    return tmp_path


def refused(*inputs, **written):
    with pytest.raises(UserError, match="is an input, and results would be written to .*; choose another --out"):
        check_apart(inputs, **written)
    return True


def test_an_input_in_a_result_folder_is_refused(folders):
    fused = folders / "out" / "fused"
    check_apart([folders / "vi" / "a.png", folders / "vi", None], [fused], [folders / "out" / "per_image.csv"])
    (fused / "a.png").write_bytes(b"picture")
    (fused / "deep").mkdir()
    (fused / "deep" / "b.png").write_bytes(b"picture")
    for path in (fused, fused / "a.png", fused / "deep" / "b.png", folders / "vi" / ".." / "out" / "fused"):
        assert refused(path, folders=[fused])
    # Beside the results is not below them.
    (folders / "out" / "photo.png").write_bytes(b"picture")
    check_apart([folders / "out" / "photo.png"], [fused], [folders / "out" / "summary.json", folders / "out"])


def test_links_are_seen_through(folders):
    (folders / "out" / "registered").symlink_to(folders / "vi")
    assert refused(folders / "vi" / "a.png", folders=[folders / "out" / "registered"])
    (folders / "other").symlink_to(folders / "out")
    (folders / "out" / "fused" / "a.png").write_bytes(b"picture")
    assert refused(folders / "other" / "fused" / "a.png", folders=[folders / "out" / "fused"])
    (folders / "vi" / "link.png").symlink_to(folders / "out" / "fused" / "a.png")
    assert refused(folders / "vi" / "link.png", folders=[folders / "out" / "fused"])
    (folders / "hard.csv").hardlink_to(folders / "vi" / "a.png")
    assert refused(folders / "hard.csv", files=[folders / "vi" / "a.png"])


@pytest.mark.parametrize("letter", ["n", "\u00e9"])
def test_names_as_long_as_the_system_allows(tmp_path, letter):
    name = letter * (251 // len(letter.encode())) + ".png"
    write_bytes(tmp_path / name, b"picture")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(UserError, match="cannot be written .File name too long"):
        write_bytes(tmp_path / f"{letter * 251}.json", b"longer")
    assert [path.name for path in tmp_path.iterdir()] == [name]
