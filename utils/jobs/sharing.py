"""A folder shared among the processes that ``accelerate launch`` started, on one machine or several."""

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

T = TypeVar("T")


class Share:
    """This process's share of the work; all of it without a launcher. Create it before anything uses the ``device``."""

    def __init__(self, device: torch.device):
        self.index, self.count = 0, int(os.environ.get("WORLD_SIZE", 1))
        if self.count > 1:
            # Without a GPU, several processes connect only if the CPU is requested.
            self.index = PartialState(cpu=device.type == "cpu").process_index

    @property
    def main(self) -> bool:
        """True in the process that writes and says what concerns all."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            PartialState().wait_for_everyone()

    def of(self, items: Sequence[T]) -> list[T]:
        """Return this process's part of ``items``; each is in one part, neighbours in different ones."""
        return list(items[self.index :: self.count])

    def gather(self, items: list[T]) -> list[T]:
        """Return the items of all processes, once all have called this."""
        return gather_object(items) if self.count > 1 else items
