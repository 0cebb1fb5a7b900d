"""Which IR and VI files belong together, and what is said of the others."""

import pytest

from utils.errors import UserError
from utils.files.partners import files_by_name, find_partners


def folders(root, ir, vi):
    """Make empty files; partners are found by names only."""
    for folder, names in (("ir", ir), ("vi", vi)):
        for name in names:
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return root / "ir", root / "vi"


def found(root, ir, vi, **options):
    folder = folders(root, ir, vi)
    partners = find_partners(*folder, **options)
    pairs = {
        name: tuple(path.relative_to(side).as_posix() for path, side in zip(files, folder))
        for name, files in partners.files.items()
    }
    return pairs, partners


def test_equal_stems_whatever_the_extension(tmp_path):
    pairs, partners = found(tmp_path, ["b.tif", "a.npy"], ["a.jpg", "b.bmp"])
    assert pairs == {"a": ("a.npy", "a.jpg"), "b": ("b.tif", "b.bmp")}
    assert partners.lines == [] and partners.alone == []


@pytest.mark.parametrize(
    "ir, vi, line",
    [
        (
            ["ir_0001.png", "ir_0002.png"],
            ["vis_0001.png", "vis_0002.png"],
            "prefix 'ir_' of IR and prefix 'vis_' of VI",
        ),
        (["0001_ir.png", "0002_ir.png"], ["0001_vi.png", "0002_vi.png"], "suffix '_ir' of IR and suffix '_vi' of VI"),
        (["FLIR_0001.jpg", "FLIR_0002.jpg"], ["FLIR_0001_rgb.jpg", "FLIR_0002_rgb.jpg"], "the suffix '_rgb' of VI is"),
        (["IR-1.png", "IR-2.png"], ["1.png", "2.png"], "the prefix 'ir-' of IR is"),
        (["thermal001.png", "thermal002.png"], ["001rgb.png", "002rgb.png"], "'thermal' of IR and suffix 'rgb' of VI"),
        (["d_1_t.png", "d_2_t.png", "x.png"], ["d_1_w.png", "d_2_w.png"], "suffix '_t' of IR and suffix '_w' of VI"),
    ],
)
def test_one_prefix_or_suffix_is_taken_off_and_said(tmp_path, ir, vi, line):
    pairs, partners = found(tmp_path, ir, vi)
    assert list(pairs.values()) == list(zip(ir, vi)) and line in partners.lines[0]


def test_an_affix_never_cuts_a_number(tmp_path):
    # Without "1" of IR and "2" of VI, 11 would be 21's partner.
    with pytest.raises(UserError, match="no names pair up, such as 11.png and 21.png.*--pairs"):
        found(tmp_path, ["11.png", "12.png"], ["21.png", "22.png"])


def test_strays_do_not_pair_up_where_stems_are_equal(tmp_path):
    pairs, partners = found(tmp_path, ["a.png", "b.png", "ir_9.png"], ["a.png", "b.png", "vis_9.png"])
    assert list(pairs) == ["a", "b"]
    assert [line.rpartition(": ")[2] for line in partners.alone] == ["ir_9.png", "vis_9.png"]


def test_one_equal_stem_does_not_hide_the_others(tmp_path):
    ir, vi = ["board.png", *(f"ir_{n}.png" for n in range(5))], ["board.png", *(f"vi_{n}.png" for n in range(5))]
    pairs, partners = found(tmp_path, ir, vi)
    assert (
        len(pairs) == 6 and pairs["board"] == ("board.png", "board.png") and pairs["vi_3"] == ("ir_3.png", "vi_3.png")
    )
    assert partners.alone == []


def test_case_unicode_and_leading_zeros(tmp_path):
    ir, vi = (
        ["IMG_A.PNG", "cafe\u0301.png", "7.png", "shot12.tif"],
        ["img_a.jpg", "caf\u00e9.png", "0007.png", "shot012.png"],
    )
    pairs, partners = found(tmp_path, ir, vi)
    assert dict(pairs.values()) == dict(zip(ir, vi)) and partners.alone == []


def test_leading_zeros_that_are_ambiguous_stay(tmp_path):
    pairs, partners = found(tmp_path, ["a.png", "7.png", "07.png"], ["a.png", "007.png"])
    assert list(pairs) == ["a"] and "07.png, 7.png" in partners.alone[0] and "007.png" in partners.alone[1]


def test_nested_folders(tmp_path):
    ir, vi = ["day/1.png", "Night/1.png", "2.png"], ["day/1.jpg", "night/1.jpg", "2.png"]
    pairs, _ = found(tmp_path, ir, vi, recursive=True)
    assert pairs == {
        "2": ("2.png", "2.png"),
        "day/1": ("day/1.png", "day/1.jpg"),
        "night/1": ("Night/1.png", "night/1.jpg"),
    }
    assert list(find_partners(tmp_path / "ir", tmp_path / "vi").files) == ["2"]
    with pytest.raises(UserError, match="day: no such file"):
        find_partners(tmp_path / "ir" / "day", tmp_path / "day")
    (tmp_path / "ir" / "2.png").unlink()
    with pytest.raises(UserError, match="ir: no images in it .*--recursive"):
        find_partners(tmp_path / "ir", tmp_path / "vi")


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    extra = ["._a.png", ".hidden/a.png", "__MACOSX/a.png", "Thumbs.db", "notes.txt", "folder.png/x.txt"]
    pairs, partners = found(tmp_path, ["a.png", *extra], ["a.png", *extra], recursive=True)
    assert list(pairs) == ["a"] and partners.alone == []


def test_two_files_of_one_stem_are_named(tmp_path):
    pairs, partners = found(tmp_path, ["a.png", "b.png", "c.png"], ["a.png", "a.jpg", "b.png"])
    assert list(pairs) == ["b"]
    assert "vi: have the same stem, keep one of them: a.jpg, a.png" in partners.alone[0]
    assert "without a partner" in partners.alone[1] and partners.alone[1].endswith("vi: a.png, c.png")
    with pytest.raises(UserError, match="same stem"):
        files_by_name(tmp_path / "vi")


def test_long_lists_are_cut(tmp_path):
    _, partners = found(tmp_path, ["a.png"], ["a.png", *(f"{n}x.png" for n in range(9))])
    assert partners.alone[0].endswith("4x.png and 4 others")


def test_a_list_of_pairs(tmp_path):
    folder = folders(tmp_path, ["x.png", "y.tif"], ["p.png", "sub/q.jpg"])
    table = tmp_path / "pairs.csv"
    table.write_text("\ufeffIR, VI\nx.png, p.png\ny.tif,sub/q.jpg\nz.png,p.png\n\n", encoding="utf-8")
    partners = find_partners(*folder, pairs=table)
    assert partners.files == {
        "p": (folder[0] / "x.png", folder[1] / "p.png"),
        "sub/q": (folder[0] / "y.tif", folder[1] / "sub" / "q.jpg"),
    }
    assert "pairs.csv: no such file, the pair is left out" in partners.alone[0] and "z.png" in partners.alone[0]
    table.write_text("ir/x.png,vi/p.png\n")  # relative to the list, without the first row
    assert find_partners(None, None, pairs=table).files == {"vi/p": (folder[0] / "x.png", folder[1] / "p.png")}
    table.write_text(f"{folder[0] / 'x.png'},{folder[1] / 'p.png'}\n")
    assert list(find_partners(None, None, pairs=table).files) == ["p"]


@pytest.mark.parametrize(
    "text, problem",
    [
        ("ir,vi\nx.png\n", "does not name two files"),
        ("ir,vi\n", "none of its 0 pairs"),
        ("ir,vi\nx.png,none.png\n", "none of its 1 pairs"),
        ("ir,vi\nx.png,p.png\ny.tif,p.png\n", "two pairs would be named p"),
    ],
)
def test_bad_lists_are_named(tmp_path, text, problem):
    folder = folders(tmp_path, ["x.png", "y.tif"], ["p.png"])
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UserError, match=f"pairs.csv: .*{problem}"):
        find_partners(*folder, pairs=tmp_path / "pairs.csv")
    with pytest.raises(UserError, match="none.csv: cannot be read"):
        find_partners(*folder, pairs=tmp_path / "none.csv")
