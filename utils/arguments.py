"""Types of command-line arguments; argparse prints the errors they raise."""

import argparse
import math
import sys
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """Make the type of an argument that is a whole number, at least ``least``."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least {least}")
        return int(text)

    return number


def share_of_one(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a number from 0 to 1")
    return value


def sheet_count(text: str) -> float:
    """Parse ``all``, ``none`` or a whole number (the type of ``--sheets``)."""
    named = {"all": math.inf, "none": 0}
    if text not in named and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: write all, none or a number")
    return named[text] if text in named else int(text)


def renamed(new: str) -> type[argparse.Action]:
    """Make the action of an option that was renamed to ``new``: it is accepted, with a note on standard error."""

    class Renamed(argparse.Action):
        def __call__(self, parser, namespace, value, option=None):
            print(f"note: {option} is now {new}", file=sys.stderr)
            setattr(namespace, new.removeprefix("--"), value)

    return Renamed


def image_size(least: int) -> Callable[[str], tuple[int, int]]:
    """Make the type of an argument such as 640x480, width and height, both at least ``least``."""

    def size(text: str) -> tuple[int, int]:
        width, _, height = text.partition("x")
        if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= least):
            raise argparse.ArgumentTypeError(f"{text}: write it as 640x480, both at least {least}")
        return int(width), int(height)

    return size
