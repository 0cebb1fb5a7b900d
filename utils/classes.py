"""The classes of MSRS's labels, which SeAFusion's segmenter finds: names, colours, and the value for no label."""

import colorsys

import numpy as np

CLASSES = ("background", "car", "person", "bike", "curve", "car stop", "guardrail", "colour cone", "bump")

# The value of a pixel without a label, which no loss and no score counts.
NO_LABEL = 255


def class_names(num_classes: int) -> tuple[str, ...]:
    """MSRS's names of its nine classes; numbers for any other set of classes."""
    return CLASSES if num_classes == len(CLASSES) else tuple(f"class {index}" for index in range(num_classes))


def _class_colours() -> np.ndarray:
    """A fixed colour for every value of a class map: ``(256, 3)`` uint8, black for 0, gray for 255 (no label).

    The first nine keep the hues in which MSRS's classes are usually drawn, made bright enough for images of the night.
    """
    given = [(0, 0, 0), (165, 70, 255), (255, 225, 0), (0, 200, 255), (60, 90, 255), (150, 200, 30), (0, 210, 140)]
    given += [(255, 140, 190), (255, 100, 0)]
    turns = [index * 0.618034 % 1 for index in range(len(given), 255)]  # steps of the golden ratio: no two hues meet
    further = [[round(255 * channel) for channel in colorsys.hsv_to_rgb(turn, 0.8, 1)] for turn in turns]
    return np.array([*given, *further, (128, 128, 128)], np.uint8)


CLASS_COLOURS = _class_colours()
