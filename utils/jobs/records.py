"""What a run keeps of each pair: ``OUT/done/NAME.json``, from which its tables and summary are made.

A killed run is continued from these, and several processes that share a folder put theirs together.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.evaluation.protocols import as_columns, registration_summary
from utils.evaluation.segmentation import iou_scores
from utils.files.results import means, write_csv, write_json
from utils.files.writing import write_bytes
from utils.jobs.pairs import Processed
from utils.metrics.segmentation import confusion_matrix


@dataclass
class Record:
    """The table ``row`` of a pair, its ``scores`` (:func:`utils.evaluation.protocols.score`), the ``statement`` on its
    IR file and the confusion ``matrix`` of its classes, each if there is one. ``options``: those of the run.
    """

    options: dict[str, str]
    row: dict
    scores: dict | None = None
    statement: str | None = None
    matrix: list | None = None

    @property
    def name(self) -> str:
        return self.row["name"]

    @property
    def accepted(self) -> bool:
        """False if the pair was refused."""
        return bool(self.row.get("accepted", True))

    @staticmethod
    def of(processed: Processed, options: dict[str, str]) -> "Record":
        pair, registration = processed.pair, processed.registration
        record = Record(options, {"name": pair.name}, processed.scores)
        if pair.infrared is not None:
            record.statement = pair.infrared.statement
            record.row |= dict(zip(("ir_low", "ir_high"), pair.infrared.range))
        if processed.classes is not None and pair.label is not None:
            record.matrix = confusion_matrix(processed.classes, pair.label, processed.num_classes).tolist()
        if registration is not None:
            record.row |= as_columns(processed.scores)
            if registration.accepted is not None:
                confidence = registration.confidence.item()
                source = registration.transforms[0].source
                record.row |= {"accepted": int(not processed.refused), "confidence": confidence, "source": source}
        record.row["seconds"] = processed.seconds
        return record

    def write(self, out: Path) -> None:
        """Write ``out/done/NAME.json``."""
        write_bytes(_path(out, self.name), json.dumps(asdict(self)).encode())


def read_records(names: Sequence[str], out: Path, options: dict[str, str]) -> list[Record]:
    """Read the records of those ``names`` that a run of the same ``options`` has done; UserError for a damaged one."""
    found = []
    for name in names:
        path = _path(out, name)
        if not path.is_file():
            continue
        try:
            record = Record(**json.loads(path.read_text()))
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a record of a pair ({error}); delete it to do the pair again") from error
        if record.options == options:
            found.append(record)
    return found


def _path(out: Path, name: str) -> Path:
    return out / "done" / f"{name}.json"


def summarise(records: Sequence[Record], out: Path) -> dict[str, Any]:
    """Write ``per_image.csv``, ``summary.json`` and, with classes, ``segmentation.csv`` to ``out``; return the summary.

    There is at least one record.
    """
    rows = [record.row for record in records]
    summary: dict[str, Any] = {"pairs": len(rows), "seconds_per_pair": means(rows, ["seconds"])["seconds"]}
    summary["infrared"] = dict(Counter(record.statement for record in records if record.statement is not None))
    decided = [record.accepted for record in records if "accepted" in record.row]
    if decided:
        summary |= {"accepted": sum(decided), "refused": len(decided) - sum(decided)}
        summary["sources"] = dict(Counter(row["source"] for row in rows if "source" in row))
    summary |= registration_summary([r.scores for r in records if r.scores is not None], decided or None)
    matrices = [torch.tensor(record.matrix) for record in records if record.matrix is not None]
    if matrices:
        summary["segmentation"] = iou_scores(matrices)
        classes = [{"class": name, "IoU": value} for name, value in summary["segmentation"].items()]
        write_csv(out / "segmentation.csv", classes)
    write_csv(out / "per_image.csv", rows)
    write_json(out / "summary.json", summary)
    return summary
