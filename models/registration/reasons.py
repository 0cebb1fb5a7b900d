"""Say in words why a registration was refused."""

import torch
from torch import Tensor

from models.registration.decision import weigh
from models.registration.descriptors import Picture
from models.registration.registrar import FINEST_SIDE, FLAT, LARGEST_IR
from models.registration.transform import Transform, points_matrix
from utils.colour import luminance

_WORDS = {
    "correlation": "edges and outlines of the two images hardly agree",
    "lead": "another position fits about as well",
    "support": "in most parts of the image, a slightly different position fits better",
    "overlap": "the images share only a small part",
}


@torch.no_grad()
def why_refused(ir: Tensor, vi: Tensor, transform: Transform) -> str:
    """Name what is weakest in the evidence for ``transform`` between ``ir`` ``(1, 1 or 3, h, w)`` and ``vi``
    ``(1, 1 or 3, H, W)`` in [0, 1], on the CPU; the images are of the sizes of its files.
    """
    ir_picture = Picture.of(luminance(ir)).shrink(LARGEST_IR)
    vi_picture = Picture.of(luminance(vi)).shrink(FINEST_SIDE)
    for name, picture in (("IR", ir_picture), ("VI", vi_picture)):
        if float(picture.gray.std()) < FLAT:
            return f"{name} is nearly constant, there is nothing to compare"
    to_ir, from_vi = points_matrix(transform.ir_size), torch.linalg.inv(points_matrix(transform.vi_size))
    map_ = (to_ir @ transform.vi_to_ir @ from_vi).float()
    return _WORDS[weigh(ir_picture, vi_picture, map_).weakest()]
