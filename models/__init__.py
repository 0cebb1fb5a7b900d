"""The networks of SuperFusion, the registration of pairs, and the front door to both; imports utils/ below it alone.

Start at ``superfusion.py``, the paper's figure; ``pipeline.py`` is what a user calls.
"""

from models.bisenet import BiSeNet
from models.pipeline import Pipeline
from models.superfusion import SuperFusion
from models.weights import load_model, load_segmenter, load_weights

__all__ = ["BiSeNet", "Pipeline", "SuperFusion", "load_model", "load_segmenter", "load_weights"]
