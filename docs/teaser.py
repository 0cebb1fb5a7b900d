"""Draw docs/teaser.jpg, the picture at the top of README.md, from the embedded sample: ``python -m docs.teaser``.

The upper row is a pair of one frame whose infrared image is deformed as in the test sets, the lower row one of two
cameras that differ in field of view, resolution and pose. Both are registered and fused as ``test.py`` does by default.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import write_jpeg

from datasets.cameras import Cameras, unlike_cameras
from datasets.sample import SamplePairs
from models import Pipeline
from models.warping import resize
from utils.figures.sheets import sheet

PANEL = (300, 400)  # height and width in pixels
CAMERAS = Cameras(view=(0.6, 0.75), sensors=((320, 256),))
SEED = 1


def fitted(image: Tensor) -> Tensor:
    """Resize ``image`` ``(C, H, W)`` to fit into a panel, with white beside it: ``(C, *PANEL)``."""
    scale = min(side / own for side, own in zip(PANEL, image.shape[-2:]))
    small = resize(image[None], [round(side * scale) for side in image.shape[-2:]])[0]
    rows, columns = (side - own for side, own in zip(PANEL, small.shape[-2:]))
    return F.pad(small, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=1.0)


def row(pipeline: Pipeline, ir: Tensor, vi: Tensor, about: str) -> Tensor:
    """Register and fuse ``ir`` ``(1, h, w)`` and ``vi`` ``(3, H, W)``, and draw the four images side by side."""
    result = pipeline(ir[None], vi[None])
    panels = {
        f"infrared, {about}": ir,
        "visible": vi,
        "infrared, registered": result.registered[0],
        "fused": result.fused[0],
    }
    return sheet({caption: fitted(panel.expand(3, -1, -1)) for caption, panel in panels.items()}, columns=4)


def main() -> None:
    samples = SamplePairs()
    pairs = {name: samples[index] for index, name in enumerate(samples.names)}
    pipeline = Pipeline.load()
    deformed = pairs["dusk"]
    other = unlike_cameras(pairs["daylight"], SEED, CAMERAS)
    height, width = other.ir.shape[-2:]
    rows = [
        row(pipeline, deformed.ir_warp, deformed.vi, "misaligned"),
        row(pipeline, other.ir, other.vi, f"of another camera ({width}x{height})"),
    ]
    picture = (torch.cat(rows, dim=1) * 255).round().to(torch.uint8)
    write_jpeg(picture, str(Path(__file__).with_suffix(".jpg")), quality=88)


if __name__ == "__main__":
    main()
