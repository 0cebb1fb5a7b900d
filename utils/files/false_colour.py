"""Turn a false-colour thermal picture (ironbow, jet, ...) back into the scalar that its palette shows.

The colours of such a picture lie on a curve in RGB, those of a photograph do not. The curve is a known palette's if one
fits; else it is found from the picture itself: the longest path in the minimum spanning tree of its colours, refined
as a principal curve (Hastie and Stuetzle, 1989), and the known palette most like it says which end is hot.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

# Hot is red, yellow or white in all of them. OpenCV's rainbow begins with red.
_OPENCV = {
    "jet": (cv2.COLORMAP_JET, 1),
    "hot": (cv2.COLORMAP_HOT, 1),
    "rainbow": (cv2.COLORMAP_RAINBOW, -1),
    "inferno": (cv2.COLORMAP_INFERNO, 1),
    "magma": (cv2.COLORMAP_MAGMA, 1),
    "plasma": (cv2.COLORMAP_PLASMA, 1),
    "viridis": (cv2.COLORMAP_VIRIDIS, 1),
    "turbo": (cv2.COLORMAP_TURBO, 1),
}
# Thermal cameras' ironbow, which every maker draws a little differently: position in 0 .. 255 and colour.
_IRONBOW = {
    0: (0, 0, 10),
    8: (0, 0, 80),
    21: (19, 0, 123),
    41: (79, 0, 151),
    63: (143, 0, 156),
    83: (189, 5, 147),
    106: (209, 28, 118),
    122: (225, 58, 48),
    137: (236, 86, 8),
    160: (243, 113, 0),
    185: (250, 148, 0),
    208: (254, 190, 13),
    230: (255, 225, 70),
    243: (255, 241, 140),
    255: (255, 255, 246),
}

_SAMPLE = 6000  # pixels by which a picture is judged
# The mean difference between the largest and the smallest channel. Less than the first is a tinted gray. A picture
# whose curve is its own needs more: photographs of public sets that lie near a curve have up to 65, palettes 78 to 217.
_CHROMA, _OWN_CHROMA = 25, 70
# A curve fits if this share of the pixels lies nearer to it, in gray levels. JPEG moves many colours off a known
# palette; the photographs above have at most 0.3 near one.
_NEAR, _KNOWN_SHARE, _OWN_SHARE = 20.0, 0.75, 0.9
_CELL = 10  # side of the cells into which colours are sorted, in gray levels
_MOST_CELLS = 700  # a curve passes through fewer
_RARE = 3e-4  # cells with a smaller share of the pixels are noise
_POINTS, _SMOOTHING, _ROUNDS = 128, 2.0, 6  # of the principal curve
_SUBSTEPS = 4  # points between two neighbours of a palette


@dataclass
class Scalar:
    """``values`` ``(h, w)`` float32, 0 (cold) .. 255 (hot): the place of each colour on the ``palette``, its name."""

    values: np.ndarray
    palette: str


def to_scalar(pixels: np.ndarray) -> Scalar | None:
    """Turn an 8-bit RGB picture ``(h, w, 3)`` into the scalar that it shows; None if its colours lie on no curve."""
    colours = pixels.reshape(-1, 3)
    sample = colours[:: max(1, len(colours) // _SAMPLE)].astype(np.float64)
    chroma = np.ptp(sample, axis=1).mean()
    if chroma < _CHROMA:
        return None
    distances = {name: _distances(sample, palette) for name, palette in known_palettes().items()}
    name = min(distances, key=lambda known: np.mean(distances[known]))
    if _fits(distances[name], _KNOWN_SHARE):
        curve = known_palettes()[name]
    elif chroma < _OWN_CHROMA:
        return None
    else:
        curve, name = _own_curve(sample), "a palette of its own"
        if curve is None or not _fits(_distances(sample, curve), _OWN_SHARE):
            return None
    # Every colour once: a picture has far fewer colours than pixels.
    codes, inverse = np.unique(colours.astype(np.int32) @ (1 << 16, 1 << 8, 1), return_inverse=True)
    unique = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    _, place = _tree(curve).query(unique)
    values = (place * (255 / ((len(curve) - 1) * _SUBSTEPS))).astype(np.float32)
    return Scalar(values[inverse.reshape(pixels.shape[:2])], name)


@cache
def known_palettes() -> dict[str, np.ndarray]:
    """The known palettes by name, each ``(256, 3)`` RGB in 0 .. 255, from cold to hot."""
    steps = np.arange(256)
    ironbow = np.stack([np.interp(steps, list(_IRONBOW), channel) for channel in zip(*_IRONBOW.values())], axis=1)
    palettes = {"ironbow": ironbow}
    for name, (number, direction) in _OPENCV.items():
        colours = cv2.applyColorMap(steps.astype(np.uint8)[:, None], number)[:, 0, ::-1]
        palettes[name] = colours[::direction].astype(np.float64)
    return palettes


def _tree(curve: np.ndarray) -> cKDTree:
    """The points of a curve ``(n, 3)`` with ``_SUBSTEPS - 1`` more between each two."""
    steps = np.arange((len(curve) - 1) * _SUBSTEPS + 1) / _SUBSTEPS
    return cKDTree(np.stack([np.interp(steps, np.arange(len(curve)), channel) for channel in curve.T], axis=1))


def _distances(colours: np.ndarray, curve: np.ndarray) -> np.ndarray:
    return _tree(curve).query(colours)[0]


def _fits(distances: np.ndarray, share: float) -> bool:
    return bool((distances < _NEAR).mean() >= share)


def _own_curve(colours: np.ndarray) -> np.ndarray | None:
    """Find the curve ``(_POINTS, 3)``, cold to hot, on which ``colours`` ``(n, 3)`` lie; None if they are too many."""
    cells, inverse, counts = np.unique((colours // _CELL).astype(int), axis=0, return_inverse=True, return_counts=True)
    centres = np.stack([np.bincount(inverse.ravel(), channel) for channel in colours.T], axis=1) / counts[:, None]
    centres = centres[counts >= max(2, _RARE * len(colours))]
    if not 3 <= len(centres) <= _MOST_CELLS:
        return None
    curve = _resampled(centres[_longest_path(centres)])
    for _ in range(_ROUNDS):
        place = cKDTree(curve).query(colours)[1]
        weight = np.bincount(place, minlength=_POINTS).astype(np.float64)
        smooth_weight = gaussian_filter1d(weight, _SMOOTHING, mode="nearest") + 1e-9
        sums = np.stack([np.bincount(place, channel, _POINTS) for channel in colours.T], axis=1)
        means = gaussian_filter1d(sums, _SMOOTHING, axis=0, mode="nearest") / smooth_weight[:, None]
        # Where no colour lies, the curve stays.
        means = np.where(smooth_weight[:, None] > 1e-3, means, curve)
        means[[0, -1]] = curve[[0, -1]]  # averages would draw the ends inwards
        curve = _resampled(means)
    return curve[:: _direction(curve)]


def _longest_path(points: np.ndarray) -> np.ndarray:
    """Return the indices along the longest path in the minimum spanning tree of ``points`` ``(n, 3)``."""
    tree = minimum_spanning_tree(cdist(points, points))
    tree = tree + tree.T

    def farthest(start: int) -> tuple[int, np.ndarray]:
        order, before = breadth_first_order(tree, start, directed=False)
        length = np.zeros(len(points))
        for node in order[1:]:
            length[node] = length[before[node]] + tree[node, before[node]]
        return int(length.argmax()), before

    start, _ = farthest(0)
    end, before = farthest(start)
    path = [end]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    return np.array(path)


def _resampled(curve: np.ndarray) -> np.ndarray:
    """Resample a polyline ``(n, 3)`` at ``_POINTS`` points of equal distance along it."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    places = np.linspace(0, length[-1], _POINTS)
    return np.stack([np.interp(places, length, channel) for channel in curve.T], axis=1)


def _direction(curve: np.ndarray) -> int:
    """Return 1 if ``curve`` runs from cold to hot as the known palette does that is most like it, else -1."""
    best = min(known_palettes().values(), key=lambda palette: _distances(curve, palette).mean())
    place = _tree(best).query(curve)[1]
    return 1 if np.corrcoef(place, np.arange(len(curve)))[0, 1] >= 0 else -1
