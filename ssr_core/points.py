"""Points that a user clicked in a picture: how they are written, and which patches they lie in.

web/lib/points.js reads and writes the same texts in the browser.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from .shown import shown

Point = tuple[float, float]
"""x from the left and y from the top, in pixels of the whole picture."""

MOST_LETTERS = 100_000
MOST_POINTS = 4096
"""A stroke leaves one point a patch, of which a picture has a few hundred."""
FARTHEST = 1 << 16
"""Pixels: no picture is larger. web/lib/points.js has the same three."""


def parse_points(text: str) -> tuple[Point, ...]:
    """Points in pixels: "x, y" pairs separated by semicolons or line breaks, or JSON as point editors write it."""
    if not isinstance(text, str):
        raise ValueError(f'points is a {type(text).__name__}; expected a text such as "120, 80; 140, 95".')
    if len(text) > MOST_LETTERS:
        raise ValueError(
            f"points is a text of {len(text):,} characters; at most {MOST_LETTERS:,} are read. Point at fewer places."
        )
    if not text.strip():
        return ()
    try:
        if text.strip()[0] in "[{":
            content = json.loads(text)
            pairs = [(item["x"], item["y"]) if isinstance(item, dict) else item for item in content]
            if not all(isinstance(value, int | float) for pair in pairs for value in pair):
                raise TypeError
        else:
            pairs = [tuple(part.replace(",", " ").split()) for part in re.split(r"[;\n]", text) if part.strip()]
        points = tuple((float(x), float(y)) for x, y in pairs)
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
        points = ((math.nan, math.nan),)
    if not all(abs(x) <= FARTHEST and abs(y) <= FARTHEST for x, y in points):
        raise ValueError(
            f'points is "{shown(text, 60)}"; expected pixels such as "120, 80; 140, 95", or JSON: [{{"x": 120, "y": 80}}], each number at '
            f"most {FARTHEST:,}."
        )
    if len(points) > MOST_POINTS:
        raise ValueError(f"points holds {len(points):,} points; at most {MOST_POINTS:,} are read. Point at fewer places.")
    return points


def check_points(points: Sequence[Point]) -> tuple[Point, ...]:
    """Points as a caller gives them; raises ValueError for anything else."""
    try:
        pairs = tuple((float(x), float(y)) for x, y in points)
    except (OverflowError, TypeError, ValueError):
        pairs = ((math.nan, math.nan),)
    if isinstance(points, str | bytes) or not all(abs(x) <= FARTHEST and abs(y) <= FARTHEST for x, y in pairs):
        raise ValueError(
            f"points is {shown(repr(points), 60)}; expected pairs (x, y) of pixels, each number at most {FARTHEST:,}. parse_points reads "
            "a text."
        )
    return pairs


def points_to_patches(points: Sequence[Point], box: tuple[float, float, float, float], grid: int) -> Tensor:
    """Points in a picture's pixels -> [grid*grid] bool of the patches under them. box: what the vision model sees (vision.seen_box).

    Raises ValueError where none lies in the box.
    """
    left, top, right, bottom = box
    marked = torch.zeros(grid, grid, dtype=torch.bool)
    for x, y in points:
        column = math.floor((x - left) / (right - left) * grid)
        row = math.floor((y - top) / (bottom - top) * grid)
        if 0 <= column < grid and 0 <= row < grid:
            marked[row, column] = True
    if not bool(marked.any()):
        raise ValueError(
            f"None of the {len(points)} points lies in the part of the picture that the encoder sees, x {left:.0f} to {right:.0f} and y "
            f"{top:.0f} to {bottom:.0f} in pixels. Point at that part, or change the crop or fit that leaves the rest out."
        )
    return marked.flatten()
