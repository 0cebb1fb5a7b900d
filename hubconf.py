"""The entry for torch.hub: ``torch.hub.load("FOLDER OF THE CLONE", "superfusion", source="local")``."""

from typing import Any

from models import Pipeline

dependencies = ["torch", "torchvision", "kornia", "scipy", "cv2", "PIL", "safetensors"]


def superfusion(**options: Any) -> Pipeline:
    """Load the pipeline of the shipped weights, which registers and fuses two files or two tensors.

    ``options`` are those of :meth:`models.pipeline.Pipeline.load`, as ``registrar`` and ``device``.
    """
    return Pipeline.load(**options)
