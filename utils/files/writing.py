"""Write files atomically: a file is complete or does not appear."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder and rename it; raises UserError if it cannot be written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        if temporary.is_file():
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
