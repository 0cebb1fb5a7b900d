"""Find the IR and VI files that belong together, by their names or by a list.

The rule, in this order: (1) equal stems; (2) where those are few, stems that are equal once one prefix or suffix
that is common to a side is taken off (``ir_0001`` and ``vis_0001``, ``FLIR_0001`` and ``FLIR_0001_rgb``), on either
side or both. Stems compare without case and in one Unicode form; what is left over pairs up by numbers without leading
zeros (``7`` and ``0007``), if that is unambiguous. In nested folders, the path below the given folder is part of the
name. (3) A CSV file of two columns, ir and vi, goes before any rule.

Hidden files and folders and files of other kinds are passed over. What stays without a partner is named.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import UserError
from utils.files.decode import EXTENSIONS, THERMAL_EXTENSIONS

_FOREIGN = ("__MACOSX",)  # folders that an archive of macOS leaves behind
_NAMED = 5  # files that a line names
# Where an affix may end: at separators, and between letters and digits; never inside a number.
_PREFIX_END = re.compile(r"(?<=[\W_])(?=[^\W_])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_SUFFIX_START = re.compile(r"(?<=[^\W_])(?=[\W_])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")

Key = Callable[[str], str | None]


@dataclass
class Partners:
    """Pairs by name: ``files[name]`` is (IR file, VI file); the name is VI's stem, below its folder.

    ``lines``: what to tell the user of the rule that was found; ``alone``: the files left out, a line for each side.
    """

    files: dict[str, tuple[Path, Path]]
    lines: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Affix:
    """A ``text`` that begins (or, with ``at_end``, ends) the stems of one side; empty if nothing is to be taken off."""

    text: str = ""
    at_end: bool = False

    def strip(self, stem: str) -> str | None:
        """Take it off; None if ``stem`` does not have it, or consists of nothing else."""
        has = stem.endswith(self.text) if self.at_end else stem.startswith(self.text)
        rest = stem[: len(stem) - len(self.text)] if self.at_end else stem[len(self.text) :]
        return rest if has and rest else None

    def __str__(self) -> str:
        return f"{'suffix' if self.at_end else 'prefix'} {self.text!r}"


def find_partners(ir: Path | None, vi: Path | None, recursive: bool = False, pairs: Path | None = None) -> Partners:
    """Pair the files of the folders ``ir`` and ``vi``, or two files; ``recursive``: of their subfolders, too.

    ``pairs``: a CSV file that lists the pairs, its paths relative to the folders, or to its own folder without them.
    Raises UserError for a missing folder, one without images, an unreadable list, or if nothing pairs up.
    """
    if pairs is not None:
        return _listed(pairs, ir, vi)
    if ir.is_file() and vi.is_file():
        return Partners({vi.stem: (ir, vi)})
    ir_files, vi_files = list_files(ir, THERMAL_EXTENSIONS, recursive), list_files(vi, EXTENSIONS, recursive)
    found, lines = _matches(list(ir_files), list(vi_files))
    sides = ((ir, vi, ir_files.keys() - set(found.values())), (vi, ir, vi_files.keys() - set(found)))
    twice = [line for folder, _, left in sides for line in _same_stem(folder, left)]
    if not found and twice:
        raise UserError(twice[0])
    if not found:
        raise UserError(
            f"{ir} and {vi}: no names pair up, such as {min(ir_files)} and {min(vi_files)}; equal stems do, also once "
            "a common prefix or suffix is taken off each side; else list the pairs: --pairs FILE.csv"
        )
    alone = [line for side in sides for line in _without(*side)]
    files = {_name(vi_key): (ir_files[ir_key], vi_files[vi_key]) for vi_key, ir_key in found.items()}
    return Partners(dict(sorted(files.items())), lines, twice + alone)


def _same_stem(folder: Path, left: set[str]) -> list[str]:
    """Return a line that names those of the files ``left`` over whose stem is another's, too; nothing without any."""
    counts = Counter(map(_split, left))
    same = sorted(path for path in left if counts[_split(path)] > 1)
    return [f"{folder}: have the same stem, keep one of them: {_listing(same)}"] if same else []


def _without(folder: Path, other: Path, left: set[str]) -> list[str]:
    """Return a line that names those of the files ``left`` over whose stem is theirs alone; nothing without any."""
    counts = Counter(map(_split, left))
    alone = sorted(path for path in left if counts[_split(path)] == 1)
    return [f"{folder}: without a partner in {other}: {_listing(alone)}"] if alone else []


def list_files(folder: Path, extensions: tuple[str, ...], recursive: bool = False) -> dict[str, Path]:
    """Return the image files of ``folder`` by their path below it, with ``/``; UserError if there are none."""
    if not folder.is_dir():
        problem = "a file, but its partner is not" if folder.exists() else "no such file or folder"
        raise UserError(f"{folder}: {problem}")
    files = {}
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        below = path.relative_to(folder)
        passed_over = any(part.startswith(".") or part in _FOREIGN for part in below.parts)
        if not passed_over and path.suffix.lower() in extensions and path.is_file():
            files[below.as_posix()] = path
    if not files:
        nested = "" if recursive else "; --recursive looks into its folders"
        raise UserError(f"{folder}: no images in it (looked for {', '.join(extensions)}{nested})")
    return files


def files_by_name(folder: Path, recursive: bool = False) -> dict[str, Path]:
    """Return the images of ``folder`` by their path below it without extension; UserError if two have the same."""
    files: dict[str, Path] = {}
    for below, path in list_files(folder, EXTENSIONS, recursive).items():
        name = _name(below)
        if name in files:
            raise UserError(f"{path}: {files[name].name} has the same stem; keep one of them")
        files[name] = path
    return files


def _matches(ir: list[str], vi: list[str]) -> tuple[dict[str, str], list[str]]:
    """Pair two lists of relative paths: IR's by VI's, and a line about a rule other than equal stems."""
    found = _equal(ir, vi, Affix(), Affix())
    if 2 * len(found) >= min(len(ir), len(vi)):
        return found, []
    ir, vi = sorted(set(ir) - set(found.values())), sorted(set(vi) - found.keys())
    choices = [(ir_affix, vi_affix) for ir_affix in _affixes(ir) for vi_affix in _affixes(vi)]
    # The most pairs, and of equal numbers by the shortest affixes.
    more, affixes = {}, choices[0]
    for choice in sorted(choices, key=lambda choice: sum(len(affix.text) for affix in choice)):
        pairs = _equal(ir, vi, *choice)
        if len(pairs) > len(more):
            more, affixes = pairs, choice
    off = " and ".join(f"{affix} of {side}" for affix, side in zip(affixes, ("IR", "VI")) if affix.text)
    return found | more, [f"names pair up once the {off} is taken off"] if more else []


def _equal(ir: list[str], vi: list[str], ir_affix: Affix, vi_affix: Affix) -> dict[str, str]:
    """Pair the paths whose stems are equal without the affixes; what is left, by numbers without leading zeros."""
    found: dict[str, str] = {}
    for numbers in (False, True):
        ir_keys, vi_keys = (_unique(side, affix, numbers) for side, affix in ((ir, ir_affix), (vi, vi_affix)))
        taken = set(found.values())
        for key, path in vi_keys.items():
            if key in ir_keys and path not in found and ir_keys[key] not in taken:
                found[path] = ir_keys[key]
    return found


def _unique(paths: Iterable[str], affix: Affix, numbers: bool) -> dict[str, str]:
    """Map the keys that only one of ``paths`` has to that path."""
    keys = {path: _key(path, affix, numbers) for path in paths}
    counts = Counter(keys.values())
    return {key: path for path, key in keys.items() if key is not None and counts[key] == 1}


def _key(path: str, affix: Affix, numbers: bool) -> str | None:
    folder, stem = _split(path)
    rest = affix.strip(stem)
    if rest is None:
        return None
    key = f"{folder}/{rest}"
    return re.sub(r"\d+", lambda number: str(int(number[0])), key) if numbers else key


def _split(path: str) -> tuple[str, str]:
    """Return folder and stem of a relative path, without case and in one Unicode form."""
    folder, _, name = unicodedata.normalize("NFC", path).casefold().rpartition("/")
    return folder, name.rpartition(".")[0]


def _affixes(paths: list[str]) -> list[Affix]:
    """Return the prefixes and suffixes that at least half of the stems have, and none."""
    counts = Counter()
    for path in paths:
        stem = _split(path)[1]
        counts.update(Affix(stem[: end.start()]) for end in _PREFIX_END.finditer(stem))
        counts.update(Affix(stem[start.start() :], at_end=True) for start in _SUFFIX_START.finditer(stem))
    return [Affix()] + [affix for affix, count in counts.items() if 2 * count >= len(paths)]


def _listed(pairs: Path, ir: Path | None, vi: Path | None) -> Partners:
    try:
        rows = list(csv.reader(pairs.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{pairs}: cannot be read ({error})") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if rows and [cell.lower() for cell in rows[0]] == ["ir", "vi"]:
        del rows[0]
    partners = Partners({})
    missing = []
    for row in rows:
        if len(row) != 2 or not all(row):
            raise UserError(f"{pairs}: the row {','.join(row)!r} does not name two files; its columns are ir, vi")
        files = (ir or pairs.parent) / row[0], (vi or pairs.parent) / row[1]
        absent = [str(file) for file in files if not file.is_file()]
        missing += absent
        name = files[1].stem if Path(row[1]).is_absolute() else _name(row[1])
        if absent:
            continue
        if name in partners.files:
            raise UserError(f"{pairs}: two pairs would be named {name}; a visible file, or its stem, is listed twice")
        partners.files[name] = files
    if missing:
        partners.alone.append(f"{pairs}: no such file, the pair is left out: {_listing(missing)}")
    if not partners.files:
        raise UserError(f"{pairs}: none of its {len(rows)} pairs has both files; its columns are ir, vi")
    return partners


def _name(path: str) -> str:
    """Name a pair by the relative ``path`` of its VI file, without extension; never out of a result folder."""
    return "/".join(part for part in Path(path).with_suffix("").parts if part != "..")


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
