"""Numbers on the command line: each with its bounds, refused by name before anything starts."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from ..samplers import LARGEST_GUIDANCE, MOST_STEPS

LARGEST_SEED = 2**53 - 1
"""An animation draws frame f of seed s from the noise of s * 1000 + f, which torch takes up to 2 ** 64."""
LARGEST_BENCHMARK_SEED = 2**40
"""A benchmark draws picture n from the noise of seed * 1,000,003 + n."""
MOST_PICTURES = 100_000
MOST_FRAMES = 1024
MOST_WORDS = 64
"""Of a subject that stands in a prompt: 75 tokens are all that a text encoder reads."""
LEAST_SIDE, LARGEST_SIDE = 64, 4096
LARGEST_STRENGTH = 10.0
"""Of strengths and mask weights. The nodes end at 3 and 10; below 0 a subject is pushed away."""


def whole(least: int, most: int) -> Callable[[str], int]:
    """Whole numbers from least to most."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, got {_short(text)}")
        return number

    return read


def real(least: float, most: float) -> Callable[[str], float]:
    """Numbers from least to most; nan and infinity are none."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"must be a number from {least:g} to {most:g}, got {_short(text)}")
        return number

    return read


def size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT."""
    width, cross, height = text.partition("x")
    sides = [int(side) if side.isdecimal() and len(side) <= 6 else 0 for side in (width, height)]
    if not cross or any(not LEAST_SIDE <= side <= LARGEST_SIDE or side % 8 for side in sides):
        raise argparse.ArgumentTypeError(
            f"{_short(text)} is no size; expected WIDTHxHEIGHT in multiples of 8 from {LEAST_SIDE} to {LARGEST_SIDE}, e.g. 512x768"
        )
    return sides[0], sides[1]


def side(text: str) -> int:
    """Of a square picture."""
    return size(f"{text}x{text}")[0]


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


seed = whole(0, LARGEST_SEED)
benchmark_seed = whole(0, LARGEST_BENCHMARK_SEED)
pictures = whole(1, MOST_PICTURES)
steps = whole(1, MOST_STEPS)
frames = whole(1, MOST_FRAMES)
words = whole(1, MOST_WORDS)
training_step = whole(1, 10**9)
guidance = real(0, LARGEST_GUIDANCE)
strength = real(-LARGEST_STRENGTH, LARGEST_STRENGTH)
