"""The classes of MSRS's labels and of SeAFusion's segmenter: names, colours, and the value for no label."""

import colorsys

import numpy as np

CLASSES = ("background", "car", "person", "bike", "curve", "car stop", "guardrail", "colour cone", "bump")

# The value of a pixel without a label; losses and scores ignore it.
NO_LABEL = 255


def class_names(num_classes: int) -> tuple[str, ...]:
    """Return MSRS's class names for nine classes, and numbered names for any other count."""
    return CLASSES if num_classes == len(CLASSES) else tuple(f"class {index}" for index in range(num_classes))


def _class_colours() -> np.ndarray:
    """Make a fixed colour for every value of a class map: ``(256, 3)`` uint8, black for 0, gray for 255 (no label).

    The first nine have the hues in which MSRS's classes are usually drawn, bright enough for night images.
    """
    usual = [(0, 0, 0), (165, 70, 255), (255, 225, 0), (0, 200, 255), (60, 90, 255), (150, 200, 30), (0, 210, 140)]
    usual += [(255, 140, 190), (255, 100, 0)]
    hues = [index * 0.618034 % 1 for index in range(len(usual), 255)]  # golden-ratio steps: all hues differ
    further = [[round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.8, 1)] for hue in hues]
    return np.array([*usual, *further, (128, 128, 128)], np.uint8)


CLASS_COLOURS = _class_colours()
