"""Result tables: per-image CSV and summary JSON."""

import csv
import io
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from utils.files.writing import write_bytes


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write ``rows`` as CSV; columns in order of first appearance, empty where a row has no value."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # File names may be no UTF-8; Python stands for such bytes by surrogates.
    write_bytes(path, text.getvalue().encode(errors="surrogateescape"))


def write_json(path: Path, content: dict) -> None:
    """Write ``content`` as indented JSON."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def means(rows: list[dict], columns: Iterable[str]) -> dict[str, float]:
    """Average each of ``columns`` over ``rows``."""
    return {column: statistics.fmean(row[column] for row in rows) for column in columns}
