"""Tell a black-hot thermal picture (hot is dark) from a white-hot one, by what thermal scenes have in common.

The sky, at the upper edge, is cold; small things that stand out are hot (people, engines, lamps); and little of a scene
is much hotter than the rest. Each of these measures changes its sign when a picture is inverted, so their weighted sum,
the evidence, does so too: it is the logit of "white hot" of a logistic regression without a constant, fitted to the
training pictures of RoadScene, M3SVD, MSRS, LLVIP and M3FD, each set with the same weight, and their negatives.
"""

import cv2
import numpy as np
from torch import Tensor

from utils.files.no_data import black_frame

POLARITIES = ("auto", "white_hot", "black_hot")

# Cameras are set to white hot far more often: 9 to 1 is asked for before a single picture is inverted. Of several, the
# mean is more certain, though pictures of one camera err alike.
_BLACK_HOT = -2.2
_FLAT = 1.0  # gray levels of standard deviation: less shows nothing
_SIDE = 160  # longer side in pixels at which a picture is judged
_SMALL, _AROUND = 1.0, 6.0  # standard deviations in pixels: small things, and their surroundings
_UPPER = 0.1  # of the height: the upper edge
_SKY, _THINGS, _SKEWNESS = -4.0, 2.5, 2.7  # the weights


def evidence(values: Tensor) -> float:
    """Return the logit of "white hot" against "black hot" of a picture ``values`` ``(1, h, w)`` in 0 .. 255.

    A black frame, which is black in either polarity, takes no part.
    """
    gray = values[0].numpy()
    frame = black_frame(gray, np.zeros(gray.shape, bool))
    gray = np.where(frame, gray.mean(where=~frame), gray)
    scale = _SIDE / max(gray.shape)
    size = [max(8, round(side * scale)) for side in gray.shape[::-1]]
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    if gray.std() < _FLAT:
        return 0.0
    gray = (gray - gray.mean()) / gray.std()
    sky = np.tanh(gray[: max(1, int(_UPPER * len(gray)))].mean())
    skewness = np.tanh(np.cbrt((gray**3).mean()))
    bands = cv2.GaussianBlur(gray, (0, 0), _SMALL) - cv2.GaussianBlur(gray, (0, 0), _AROUND)
    things = np.tanh(2 * (bands.max() + bands.min()) / np.ptp(bands))
    return float(_SKY * sky + _THINGS * things + _SKEWNESS * skewness)


def is_black_hot(evidences: list[float]) -> bool:
    """Decide for pictures of one camera by the mean of their :func:`evidence`."""
    return bool(evidences) and float(np.mean(evidences)) < _BLACK_HOT / len(evidences) ** 0.5
