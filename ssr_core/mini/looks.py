"""What an instance looks like: two colours and a pattern, none of which its class word tells.

Knows colours, patterns and the words for them; what is painted with them is in shapes.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 36, 44),
    "orange": (246, 132, 22),
    "yellow": (252, 222, 48),
    "green": (24, 134, 62),
    "teal": (0, 190, 190),
    "blue": (32, 76, 214),
    "purple": (122, 40, 168),
    "pink": (250, 96, 182),
}
"""Saturated on purpose: backgrounds are pale or dark, so that a look can be measured from pixels."""

PATTERNS = ("striped", "banded", "dotted", "ringed", "checked")
PERIOD = 0.62
"""Length of a pattern's period; an object reaches from -1 to 1."""


@dataclass(frozen=True)
class Look:
    """The look of one instance. first and second are different names of COLOURS; pattern is one of PATTERNS."""

    pattern: str
    first: str
    second: str

    @property
    def words(self) -> str:
        return f"{self.first} and {self.second} {self.pattern}"


LOOKS = tuple(
    Look(pattern, first, second) for pattern in PATTERNS for first in COLOURS for second in COLOURS if first != second
)


def paint(look: Look, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The look's texture at object coordinates u (right), v (down) in -1..1: [...] -> [..., 3]."""
    palette = np.array([COLOURS[look.first], COLOURS[look.second]], dtype=np.uint8)
    return palette[_second(look.pattern, u, v).astype(np.intp)]


def _second(pattern: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the second colour lies."""
    u, v = np.broadcast_arrays(u, v)
    if pattern == "striped":
        return np.floor(u / (PERIOD / 2)).astype(int) % 2 == 1
    if pattern == "banded":
        return np.floor(v / (PERIOD / 2)).astype(int) % 2 == 1
    if pattern == "ringed":
        return np.floor(np.hypot(u, v) / (PERIOD / 2)).astype(int) % 2 == 1
    if pattern == "checked":
        return (np.floor(u / (PERIOD / 1.6)) + np.floor(v / (PERIOD / 1.6))).astype(int) % 2 == 1
    cell_u, cell_v = (u / PERIOD) % 1 - 0.5, (v / PERIOD) % 1 - 0.5
    return np.hypot(cell_u, cell_v) < 0.33
