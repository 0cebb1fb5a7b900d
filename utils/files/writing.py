"""Write files atomically: a file is complete or does not appear."""

import io
import os
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder and rename it; raises UserError if it cannot be written."""
    path = Path(path)
    # The name may itself be as long as the system allows.
    short = f"{path.name[:40]}.{zlib.crc32(os.fsencode(path.name)):08x}"
    temporary = path.with_name(f".{short}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def write_file(path: str | Path, save: Callable[[BinaryIO], object]) -> None:
    """Write a file as :func:`write_bytes` does; ``save(file)`` writes its content to a binary file object."""
    buffer = io.BytesIO()
    save(buffer)
    write_bytes(path, buffer.getvalue())


def check_writable(folder: Path) -> None:
    """Make ``folder``; raises UserError if files cannot be written there. Call it before long computations."""
    probe = folder / ".probe"
    write_bytes(probe, b"")
    probe.unlink()


def check_apart(
    inputs: Iterable[Path | None], folders: Iterable[Path] = (), files: Iterable[Path] = (), option: str = "--out"
) -> None:
    """Raise UserError if an input is one of the ``files`` to be written, or is or lies in one of the ``folders``.

    Other spellings and links are seen through. Call it before anything is written. None is no input.
    """
    around = {identity: path for path in folders if (identity := _identity(path)) is not None}
    written = around | {identity: path for path in files if (identity := _identity(path)) is not None}
    checked: dict[Path, Path | None] = {}  # folder -> where results would be written, if it lies there
    for path in filter(None, inputs):
        real = Path(os.path.realpath(path))
        if real.parent not in checked:
            above = (around.get(_identity(folder)) for folder in (real.parent, *real.parent.parents))
            checked[real.parent] = next(filter(None, above), None)
        place = written.get(_identity(real)) or checked[real.parent]
        if place is not None:
            raise UserError(f"{path}: is an input, and results would be written to {place}; choose another {option}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from all others, whatever it is called; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
