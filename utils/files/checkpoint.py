"""Weights on disk: safetensors checkpoints that rebuild their own model, and foreign PyTorch files, read safely."""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from utils.errors import UserError
from utils.files.writing import write_bytes


def write_weights(path: str | Path, model: nn.Module, **about: Any) -> None:
    """Write the weights of ``model`` to a safetensors file, with ``about`` in its metadata, each value as JSON.

    The file is written atomically.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors, {k: json.dumps(v) for k, v in about.items()}))


def read_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint without executing any code in it.

    Returns (tensors by name, metadata) of a file of :func:`write_weights`; for a PyTorch file (loaded with
    ``weights_only=True``) the dictionary that it holds, and empty metadata. Raises UserError if it is neither.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
                return {name: file.get_tensor(name) for name in file.keys()}, metadata
        except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors checkpoint ({error})") from error
    content = read_torch_file(path, "a PyTorch file of plain weights")
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content, {}


def read_torch_file(path: Path, kind: str) -> Any:
    """Read a file of ``torch.save`` without executing any code in it, tensors on the CPU.

    Raises UserError, "not KIND", if it is not such a file or contains anything but tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the error says
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not {kind}") from error


def load_strictly(model: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Load ``tensors`` into ``model``; raises UserError listing missing, unexpected or misshapen keys."""
    expected = model.state_dict()
    problems = [f"missing {name}" for name in expected.keys() - tensors.keys()]
    problems += [f"unexpected {name}" for name in tensors.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected.keys() & tensors.keys()
        if expected[name].shape != tensors[name].shape
    ]
    if problems:
        listed = "; ".join(sorted(problems)[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise UserError(f"{path}: does not fit {type(model).__name__}: {listed}")
    model.load_state_dict(tensors)
