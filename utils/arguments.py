"""Types of command line arguments; argparse prints what they refuse."""

import argparse
from collections.abc import Callable

from models.superfusion import SMALLEST_SIDE


def at_least(least: int) -> Callable[[str], int]:
    """A type of argument: whole numbers from ``least``."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least {least}")
        return int(text)

    return number


def image_size(text: str) -> tuple[int, int]:
    """Width and height of a size such as 640x480, both at least 32, the least that the networks take."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= SMALLEST_SIDE):
        raise argparse.ArgumentTypeError(f"{text}: write it as 640x480, both at least {SMALLEST_SIDE}")
    return int(width), int(height)
