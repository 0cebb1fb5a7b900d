"""The TensorBoard log of a training run: curves and pictures."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from utils.errors import UserError


class Log:
    """Write OUT/tensorboard/ inside ``with``, or nothing unless ``active``.

    Events of an earlier run after ``step`` are hidden. Raises UserError if the folder cannot be written.
    """

    def __init__(self, out: Path, step: int, active: bool):
        self.folder, self.step, self.active = out / "tensorboard", step, active

    def __enter__(self) -> "Log":
        if self.active:
            # The writer's next call raises the error of its thread, so the thread's traceback would repeat it.
            self.hook = threading.excepthook
            threading.excepthook = lambda args: None if issubclass(args.exc_type, OSError) else self.hook(args)
            try:
                with self._name_errors():
                    self.writer = SummaryWriter(self.folder, purge_step=self.step + 1)
            except UserError:
                threading.excepthook = self.hook
                raise
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if self.active:
            try:
                with self._name_errors():
                    self.writer.close()
            except UserError:
                if kind is None:
                    raise
            finally:
                threading.excepthook = self.hook

    def write(self, values: Mapping[str, float], step: int, pictures: Mapping[str, Tensor] | None = None) -> None:
        """Add ``values`` and ``pictures`` ``(3, H, W)`` in [0, 1], by name, at ``step``."""
        if self.active:
            with self._name_errors():
                for name, value in values.items():
                    self.writer.add_scalar(name, value, step)
                for name, picture in (pictures or {}).items():
                    self.writer.add_image(name, picture, step)

    @contextmanager
    def _name_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from error
