"""Pictures of a flow: its vectors as colours, and a square grid warped by it.

Flows are ``(2, H, W)`` in pixels (convention: :mod:`models.warping`), pictures ``(3, H, W)`` in [0, 1].
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from models.warping import pixel_grid, valid_mask


def flow_colours(flow: Tensor, reach: float | None = None) -> Tensor:
    """Colour a flow by Middlebury's wheel (Baker et al., IJCV, 2011): hue is direction, saturation is length.

    Full saturation stands for ``reach`` pixels or more, by default the length of the longest vector; use one value for
    flows that are to be compared. The wheel in the corner is the key: its radius is the number of pixels written there.
    Returns ``(3, H, W)``.
    """
    if reach is None:
        reach = max(float(flow.norm(dim=0).max()), 1e-6)
    picture = _wheel_colours(flow.cpu().float(), reach)
    key = _wheel_key(max(min(flow.shape[-2:]) // 10, 4), reach)
    picture[:, -key.shape[1] :, -key.shape[2] :] = key
    return picture


def _wheel_key(radius: int, reach: float) -> Tensor:
    """Draw the wheel on white, with ``radius`` for a flow of ``reach`` pixels, and that number below it."""
    offsets = (pixel_grid(2 * radius + 1, 2 * radius + 1, like=torch.zeros(1))[0] - radius) / radius
    disc = torch.where(offsets.norm(dim=0) <= 1, _wheel_colours(offsets * reach, reach), torch.ones(3, 1, 1))
    text = f"{reach:.3g} px"
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)
    strip = np.full((radius // 2 + 4, 2 * radius + 1, 3), 255, np.uint8)
    scale = min(1.8 * radius / text_width, radius / 50)
    left = int((strip.shape[1] - scale * text_width) / 2)
    cv2.putText(strip, text, (left, radius // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
    return torch.cat((disc, torch.from_numpy(strip).permute(2, 0, 1).float() / 255), dim=1)


def _wheel_colours(flow: Tensor, reach: float) -> Tensor:
    # Imported here because torchvision loads slowly and only this picture needs it.
    from torchvision.utils import flow_to_image

    shortened = flow / flow.norm(dim=0, keepdim=True).clamp(min=reach)
    # flow_to_image scales to the longest vector of the image; an extra column of unit vectors makes that length 1.
    scale = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, flow.shape[1], 1)
    return flow_to_image(torch.cat((shortened, scale), dim=2))[:, :, :-1].float() / 255


def warped_grid(flow: Tensor, step: int = 24) -> Tensor:
    """Warp a square grid with a line every ``step`` pixels by ``flow``: ``(3, H, W)``.

    Pixels where the warp samples outside the source are gray.
    """
    height, width = flow.shape[-2:]
    position = pixel_grid(height, width, like=flow)[0] + flow
    # Lines drawn by the distance to the nearest one stay thin and smooth where the grid is stretched.
    distance = ((position + step / 2) % step - step / 2).abs()
    slope = torch.stack([torch.stack(torch.gradient(axis)).norm(dim=0) for axis in position])
    line = (1.2 - distance / slope.clamp(min=1e-3)).clamp(0, 1).amax(0, keepdim=True)
    return torch.where(valid_mask(flow[None])[0] > 0, 1 - 0.9 * line, 0.75).expand(3, -1, -1)
