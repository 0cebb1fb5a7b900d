"""Tell the user what is noteworthy about files: each thing once, and at the end for how many more it holds."""

from collections import Counter
from collections.abc import Callable


class Notes:
    """Notes on files, written line by line by ``write``."""

    def __init__(self, write: Callable[[str], object]):
        self.write, self.counts = write, Counter()

    def tell(self, name: str, lines: list[str]) -> None:
        """Write the ``lines`` on ``name`` that were not yet written for another."""
        for line in lines:
            if not self.counts[line]:
                self.write(f"note: {name}: {line}")
            self.counts[line] += 1

    def close(self) -> None:
        """Write for how many more than the first each line holds."""
        for line, count in self.counts.items():
            if count > 1:
                self.write(f"note: {count - 1} more: {line}")
