"""The part of a reference that a user framed, in place of all of it: how it is written, and which pixels it is.

What is outside is as if the picture ended there; how the part meets the vision model's square is still for the fit (vision.py). Places
stay places in the whole picture. web/lib/crop.js reads and writes the same texts in the browser, by the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .points import FARTHEST
from .reference import Box, box_within
from .shown import shown

Crop = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the whole picture."""

MOST_LETTERS = 400


def parse_crop(text: str) -> Crop | None:
    """Four numbers, left, top, right and bottom in pixels, with commas or spaces between; in brackets too, as lists are written.

    None for an empty text: the whole picture. Raises ValueError for anything else.
    """
    if not isinstance(text, str):
        raise ValueError(f'crop is a {type(text).__name__}; expected a text such as "40, 20, 300, 280".')
    inner = text[:MOST_LETTERS].strip()
    if not inner and not text.strip():
        return None
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    try:
        sides = [float(part) for part in inner.replace(",", " ").split()]
    except ValueError:
        sides = []
    return _checked(sides, len(text) <= MOST_LETTERS, f'"{shown(text, 60)}"')


def check_crop(crop: Sequence[float] | None) -> Crop | None:
    """A crop as a caller gives it; raises ValueError for anything else."""
    if crop is None:
        return None
    try:
        sides = [] if isinstance(crop, str | bytes) else [float(side) for side in crop]
    except (OverflowError, TypeError, ValueError):
        sides = []
    return _checked(sides, True, shown(repr(crop), 60))


def pixels_of(crop: Crop, size: tuple[int, int]) -> Box:
    """Whole pixels of a crop, ending where the picture of that (width, height) does. Raises ValueError where it has none of them."""
    return box_within(crop, size, "crop")


def _checked(sides: Sequence[float], short: bool, given: str) -> Crop:
    if not short or len(sides) != 4 or not all(math.isfinite(side) and abs(side) <= FARTHEST for side in sides):
        raise ValueError(
            f'crop is {given}; expected left, top, right and bottom in pixels, such as "40, 20, 300, 280", each at most {FARTHEST:,}. '
            "Leave it empty to take the whole picture."
        )
    left, top, right, bottom = sides
    return left, top, right, bottom
