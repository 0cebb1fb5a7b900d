"""Load weights from our checkpoints, the authors' released SuperFusion files, and SeAFusion's segmenter file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from models.bisenet import BiSeNet
from models.build import architecture, build_superfusion, from_metadata
from models.published import is_published, rename_published
from models.superfusion import SuperFusion
from utils.errors import UserError
from utils.files.checkpoint import load_strictly, read_weights, write_weights

M = TypeVar("M", bound=nn.Module)

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "superfusion.safetensors"


def save_checkpoint(path: str | Path, model: nn.Module, **about: Any) -> None:
    """Write ``model`` (SuperFusion or BiSeNet) to a safetensors file from which :func:`load_model` rebuilds it.

    ``about`` (recipe, data, step, metrics ...) is stored in the metadata, each value as JSON. The file is written
    atomically.
    """
    write_weights(path, model, kind=type(model).__name__, architecture=architecture(model), **about)


def load_weights(model: nn.Module, path: str | Path) -> dict:
    """Load the file ``path`` into ``model`` (SuperFusion or BiSeNet), strictly, and return its metadata.

    Accepts our safetensors checkpoints; the authors' ``MSRS.pth`` and ``RoadScene.pth`` for
    :func:`models.published.published_superfusion`; SeAFusion's segmenter file for ``BiSeNet()``. Raises UserError if
    the file is unreadable, was made for another model, or has missing, unexpected or misshapen keys.
    """
    content, metadata = read_weights(path)
    kind = type(model).__name__
    if metadata.get("kind", kind) != kind:
        raise UserError(f"{path}: holds the weights of {metadata['kind']}, not of {kind}")
    if isinstance(model, SuperFusion):
        saved, current = architecture(_superfusion(content, metadata, path)), architecture(model)
        if saved != current:
            raise UserError(f"{path}: made for {saved}, not {current}; load_model builds the right one")
    _fill(model, content, path)
    return metadata


def load_model(path: str | Path = SHIPPED) -> SuperFusion:
    """Build the SuperFusion of a checkpoint, ours or the authors', and load its weights; in eval mode."""
    content, metadata = read_weights(path)
    model = _superfusion(content, metadata, path)
    _fill(model, content, path)
    return model.eval()


def load_segmenter(path: str | Path) -> BiSeNet:
    """Build the BiSeNet of our checkpoint or of SeAFusion's released file (nine classes), weights loaded; eval mode."""
    content, metadata = read_weights(path)
    if metadata.get("kind", "BiSeNet") != "BiSeNet":
        raise UserError(f"{path}: holds the weights of {metadata['kind']}, not of BiSeNet")
    model = _built(path, lambda: BiSeNet(**metadata.get("architecture", {})))
    _fill(model, content, path)
    return model.eval()


def _superfusion(content: dict, metadata: dict, path: str | Path) -> SuperFusion:
    """Build the model that a file was made for, without loading its weights."""
    if is_published(content):
        return build_superfusion(published=True)
    if metadata.get("kind") != "SuperFusion":
        raise UserError(f"{path}: neither a SuperFusion checkpoint of this project nor one of the authors'")
    return _built(path, lambda: build_superfusion(**from_metadata(metadata["architecture"])))


def _built(path: str | Path, build: Callable[[], M]) -> M:
    """Build the network that the file describes; UserError if there is none of this description."""
    try:
        return build()
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: describes a network that cannot be built ({error})") from error


def _fill(model: nn.Module, content: dict, path: str | Path) -> None:
    if isinstance(model, SuperFusion) and is_published(content):
        content = rename_published(content, str(path))
    load_strictly(model, content, path)
