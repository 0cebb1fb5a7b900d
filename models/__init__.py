"""The networks of SuperFusion, the registration of pairs, and the pipeline over both; imports only utils/.

Start at ``superfusion.py``, the paper's Fig. 2; ``pipeline.py`` is the interface for users.
"""

from models.bisenet import BiSeNet
from models.pipeline import Pipeline
from models.superfusion import SuperFusion
from models.weights import load_model, load_segmenter, load_weights

__all__ = ["BiSeNet", "Pipeline", "SuperFusion", "load_model", "load_segmenter", "load_weights"]
