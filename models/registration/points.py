"""A transform from corresponding points that a person marked in both images."""

import torch
from torch import Tensor

from models.registration.transform import Transform, points_matrix

FEWEST = 3
# A click says where a pair lies, not that it is right: by itself the evidence decides.
_CONFIDENCE = 0.5
_FLATTEST = 0.02  # spread of the points across their main direction, of half the longer side


def transform_of_points(vi: Tensor, ir: Tensor, vi_size: tuple[int, int], ir_size: tuple[int, int]) -> Transform:
    """Fit an affine map to points ``vi`` ``(N, 2)`` and their partners ``ir`` ``(N, 2)``, N >= 3, x and y in the files'
    pixels, by least squares.

    Four clicks determine a homography exactly, their errors included, and it runs away beyond them; the affine map
    averages them. :class:`models.registration.rig.RigRegistrar` refines it. Raises ValueError for points that lie on a
    line, or whose order differs between the images so that one would be mirrored.
    """
    if len(vi) != len(ir) or len(vi) < FEWEST:
        raise ValueError(f"{len(vi)} points in VI and {len(ir)} in IR; mark the same points in both, at least {FEWEST}")
    to_vi, to_ir = points_matrix(vi_size), points_matrix(ir_size)
    source, target = (_homogeneous(points) @ matrix.T for points, matrix in ((vi, to_vi), (ir, to_ir)))
    for name, points in (("VI", source), ("IR", target)):
        spread = torch.linalg.svdvals(points[:, :2] - points[:, :2].mean(0)) / len(points) ** 0.5
        if spread[1] < _FLATTEST:
            raise ValueError(f"the points in {name} lie on a line; mark points that are spread over the image")
    affine = torch.linalg.lstsq(source, target).solution.T
    if torch.linalg.det(affine[:2, :2]) <= 0:
        raise ValueError("the points mirror the image; mark them in the same order in VI and in IR")
    affine[2] = affine.new_tensor([0, 0, 1])
    matrix = torch.linalg.inv(to_ir) @ affine @ to_vi
    return Transform(matrix, vi_size, ir_size, confidence=_CONFIDENCE, source="points")


def _homogeneous(points: Tensor) -> Tensor:
    points = points.double()
    return torch.cat((points, torch.ones_like(points[:, :1])), dim=1)
