"""The networks of SuperFusion and the loading of their weights."""

from models.bisenet import BiSeNet
from models.superfusion import SuperFusion
from models.weights import load_model, load_segmenter, load_weights

__all__ = ["BiSeNet", "SuperFusion", "load_model", "load_segmenter", "load_weights"]
