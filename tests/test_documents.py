"""What the Markdown files name exists: linked files and headings, paths, scripts, modules and options of commands."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("models", "datasets", "losses", "utils", "configs", "checkpoints", "docs", "tests")
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.md"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(ROOMS)})/[\w./-]+")
_PATTERN = re.compile(r"[{}*<>$]")  # in a span that stands for several paths
_OTHERS = {"--help", "--multi_gpu"}  # of argparse and of accelerate


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def commands(text: str) -> Iterator[str]:
    """Each simple command of the shell blocks that runs Python."""
    for language, block in _FENCE.findall(text):
        if language == "bash":
            for line in block.splitlines():
                parts = re.split(r";\s|&&|\bdo\s|\s#\s", line)
                yield from (part.strip() for part in parts if part.strip().startswith("python "))


def anchors(path: Path) -> set[str]:
    """The anchors of a file's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(target)
    return found


def missing_paths(path: Path) -> list[str]:
    """Paths of the project that stand in backticks or commands and do not exist."""
    text = path.read_text()
    quoted = [span for span in re.findall(r"`([^`\n]+)`", prose(text)) if not _PATTERN.search(span)]
    quoted += [command for command in commands(text) if not _PATTERN.search(command)]
    named = [name.rstrip(".") for span in quoted for name in _PATH.findall(span)]
    return [name for name in named if not (ROOT / name).exists()]


def unknown_commands(path: Path, sources: str) -> list[str]:
    """Scripts, modules and options of commands, and options in backticks, that the code does not have."""
    text, found = path.read_text(), []
    lines = list(commands(text))
    for line in lines:
        program = line.split()[1:3]
        if program[0] == "-m":
            file = ROOT / f"{program[1].replace('.', '/')}.py"
            known = program[1] in ("venv", "pytest", "pip") or file.exists()
        else:
            known = program[0].startswith("-") or (ROOT / program[0]).exists()
        if not known:
            found.append(line)
    ours = [line for line in lines if "pytest" not in line] + re.findall(r"`(--[^`]+)`", prose(text))
    options = {option for line in ours for option in re.findall(r"(?<![\w-])--[a-z]\w*", line)} - _OTHERS
    return found + sorted(option for option in options if f'"{option}"' not in sources)


@pytest.fixture(scope="module")
def sources() -> str:
    files = [*ROOT.glob("*.py"), *(ROOT / "datasets").glob("*.py"), *(ROOT / "utils").rglob("*.py")]
    files += (ROOT / "tests" / "reliability").glob("*.py")
    return "\n".join(file.read_text() for file in files)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_names_exists(path, sources):
    assert broken_links(path) == []
    assert missing_paths(path) == []
    assert unknown_commands(path, sources) == []


def test_what_does_not_exist_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading: one\n[a](page.md#a-heading-one) [b](page.md#two) [c](gone.md) [d](https://example.org/x)\n"
        "`models/warping.py` `models/gone.py` `--scale` `--gone`\n"
        "```bash\npython test.py --ir a  # fine\npython gone.py; python -m datasets.gone\n"
        "python test.py --lost 1\n```\n"
    )
    assert broken_links(page) == ["page.md#two", "gone.md"]
    assert missing_paths(page) == ["models/gone.py"]
    found = unknown_commands(page, '"--ir" "--scale"')
    assert found == ["python gone.py", "python -m datasets.gone", "--gone", "--lost"]


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 160
    loose = [line for line in prose(text).splitlines() if not line.startswith("|") and "](" not in line]
    assert [line for line in loose if len(line) > 120] == []
