"""Temperatures and counts on VI's frame: a thermal file's own values, resampled by a transform, never stretched."""

import torch
from torch import Tensor

from models.registration.transform import Transform

INTERPOLATIONS = ("bilinear", "nearest")
_ROUNDING = 1e-3


def warp_values(values: Tensor, transform: Transform, interpolation: str = "bilinear") -> Tensor:
    """Resample the ``values`` ``(1, h, w)`` of a thermal file, NaN where it has none, on VI's frame: ``(1, H, W)``.

    The result, float32, is NaN where IR shows nothing, or where a missing value would enter. "nearest" keeps values as
    they were measured, "bilinear" takes the mean of four. Raises ValueError for values of another size than the file.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r}; choose from {', '.join(INTERPOLATIONS)}")
    known = values.isfinite()
    sampled, valid = transform.warp_ir(values.nan_to_num(0, 0, 0).double()[None], interpolation)
    share, _ = transform.warp_ir(known.double()[None], interpolation)
    # Positions are rounded, so a pixel that is met exactly lends its neighbours a tiny share.
    return torch.where((valid > 0) & (share > 1 - _ROUNDING), sampled / share, torch.nan)[0].float()
