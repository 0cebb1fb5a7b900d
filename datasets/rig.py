"""RoadScene's two cameras: the true map from the visible crop to the whole thermal frame, which its authors left out.

They aligned the thermal frame with the visible one by hand and cut both. The crop of the aligned thermal frame shows
what the whole frame shows, so the map between these two is found to a small part of a pixel; between the two crops
lies a known scale. The map thereby is as true as the authors' alignment.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

# Of two nearest descriptors the first counts if it is this much nearer than the second (Lowe's ratio).
_RATIO = 0.8
_CONTRAST = 0.02  # half of OpenCV's default, since thermal frames are flat
_TOLERANCE = 2.0  # pixels of the whole frame, for a match to agree with the map
# Where the crop is a part of the frame, 85 to 99 % of the matches agree, to 0.5 px (root mean square) at most.
_FEWEST, _SMALLEST_SHARE, _LARGEST_RESIDUAL = 50, 0.6, 1.0


@dataclass(frozen=True)
class Part:
    """How a crop lies in the whole frame: ``matrix`` ``(3, 3)`` float64 from its pixels to the frame's.

    ``matches``: features found in both; ``share`` of them agrees with the map, with this ``residual`` in pixels (root
    mean square).
    """

    matrix: Tensor
    matches: int
    share: float
    residual: float

    def is_certain(self) -> bool:
        """Tell whether the crop is a part of the frame, seen through a homography."""
        return self.matches >= _FEWEST and self.share >= _SMALLEST_SHARE and self.residual <= _LARGEST_RESIDUAL


def find_part(crop: np.ndarray, whole: np.ndarray) -> Part:
    """Find the ``crop`` ``(h, w)`` in the ``whole`` picture ``(H, W)`` of the same camera, both uint8."""
    sift = cv2.SIFT.create(contrastThreshold=_CONTRAST, enable_precise_upscale=True)
    (here, descriptors), (there, others) = (sift.detectAndCompute(picture, None) for picture in (crop, whole))
    if min(len(here), len(there)) < _FEWEST:
        return Part(torch.eye(3, dtype=torch.float64), 0, 0.0, np.inf)
    candidates = cv2.BFMatcher().knnMatch(descriptors, others, k=2)
    pairs = [first for first, second in candidates if first.distance < _RATIO * second.distance]
    points = np.array([here[pair.queryIdx].pt for pair in pairs]).reshape(-1, 2)
    partners = np.array([there[pair.trainIdx].pt for pair in pairs]).reshape(-1, 2)
    matrix = None
    if len(pairs) >= _FEWEST:
        # An affine map would not do: it is off by 1.1 px on the average, by 5 px where the perspective is strongest.
        matrix, agrees = cv2.findHomography(
            points, partners, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=5000, confidence=0.999
        )
    if matrix is None:
        return Part(torch.eye(3, dtype=torch.float64), len(pairs), 0.0, np.inf)
    agrees = agrees.ravel() > 0
    mapped = cv2.perspectiveTransform(points[None], matrix)[0]
    residual = np.sqrt(((mapped - partners)[agrees] ** 2).sum(axis=1).mean())
    return Part(torch.from_numpy(matrix), len(pairs), float(agrees.mean()), float(residual))


def visible_to_crop(visible: tuple[int, int], crop: tuple[int, int]) -> Tensor:
    """Return the map ``(3, 3)``, float64, from pixels of RoadScene's visible crop to those of its thermal crop.

    Both sizes are (width, height). The thermal crop has the frame of the visible crop of low resolution. The two
    visible crops were cut by MATLAB's imcrop, which makes r + 1 pixels of a rectangle of width r, from a picture and
    from the same reduced s times: so s = (W - 1) / (w - 1), and pixel a of the small crop lies at s (a - 1/2) + 1/2 of
    the large one. Features of both lie there to 0.05 px; to take the frames for equal is off by 0.3 px of it.
    """
    x, y = ((n - 1) / (N - 1) for n, N in zip(crop, visible))
    return torch.tensor([[x, 0, (1 - x) / 2], [0, y, (1 - y) / 2], [0, 0, 1]], dtype=torch.float64)
