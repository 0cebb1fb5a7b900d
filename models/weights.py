"""Loading weights: our checkpoints, the authors' released SuperFusion files, and SeAFusion's segmenter file."""

from pathlib import Path

from torch import nn

from models.bisenet import BiSeNet
from models.published import is_published, rename_published
from models.superfusion import SuperFusion
from utils.errors import UserError
from utils.files.checkpoint import load_strictly, read_weights


def load_weights(model: nn.Module, path: str | Path) -> dict:
    """Load the file ``path`` into ``model`` (SuperFusion or BiSeNet), strictly, and return its metadata.

    Takes our safetensors checkpoints; the authors' ``MSRS.pth`` and ``RoadScene.pth`` into
    ``SuperFusion(published=True)``; SeAFusion's segmenter file into ``BiSeNet()``. Raises UserError if the file is
    unreadable, made for another model, or has missing, unexpected or misshapen keys.
    """
    content, metadata = read_weights(path)
    _load(model, content, metadata, path)
    return metadata


def load_model(path: str | Path) -> SuperFusion:
    """The SuperFusion model that a checkpoint (ours, or the authors') was made with, weights loaded, in eval mode."""
    content, metadata = read_weights(path)
    model = SuperFusion(**_architecture(content, metadata, path))
    _load(model, content, metadata, path)
    return model.eval()


def load_segmenter(path: str | Path) -> BiSeNet:
    """The BiSeNet of a checkpoint of ours, or of SeAFusion's released file (nine classes), in eval mode."""
    content, metadata = read_weights(path)
    ours = metadata.get("kind") == "BiSeNet"
    model = BiSeNet(**metadata["architecture"]) if ours else BiSeNet()
    _load(model, content, metadata, path)
    return model.eval()


def _load(model: nn.Module, content: dict, metadata: dict, path: str | Path) -> None:
    kind = type(model).__name__
    if metadata.get("kind", kind) != kind:
        raise UserError(f"{path}: holds the weights of {metadata['kind']}, not of {kind}")
    if isinstance(model, SuperFusion):
        expected = SuperFusion(**_architecture(content, metadata, path)).architecture
        if expected != model.architecture:
            raise UserError(
                f"{path}: made for SuperFusion{_call(expected)}, not SuperFusion{_call(model.architecture)}; "
                "load_model builds the right one"
            )
        if is_published(content):
            content = rename_published(content, str(path))
    load_strictly(model, content, path)


def _architecture(content: dict, metadata: dict, path: str | Path) -> dict:
    if is_published(content):
        return {"published": True}
    if metadata.get("kind") != "SuperFusion":
        raise UserError(f"{path}: neither a SuperFusion checkpoint of this project nor one of the authors'")
    return metadata["architecture"]


def _call(arguments: dict) -> str:
    return f"({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
