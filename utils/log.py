"""The curves and pictures of a training run, for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class Log:
    """Writes OUT/tensorboard/, or nothing unless ``active``; what an earlier run wrote after ``step`` is hidden."""

    def __init__(self, out: Path, step: int, active: bool):
        self.writer = SummaryWriter(out / "tensorboard", purge_step=step + 1) if active else None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        if self.writer is not None:
            self.writer.close()

    def write(self, values: Mapping[str, float], step: int, pictures: Mapping[str, Tensor] | None = None) -> None:
        """Add ``values`` and ``pictures`` ``(3, H, W)`` in [0, 1], by name, at ``step``."""
        if self.writer is None:
            return
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        for name, picture in (pictures or {}).items():
            self.writer.add_image(name, picture, step)
