"""The classes of the drawn world: a silhouette made of polygons and a few details on top, in coordinates from -1 to 1, y down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .looks import Colour

Polygon = NDArray[np.float64]
"""[points, 2]"""

INK: Colour = (46, 40, 54)
PAPER: Colour = (250, 248, 242)


@dataclass(frozen=True)
class Shape:
    """parts: polygons whose union, minus holes, is the silhouette. details: (colour, polygon) drawn over the looks."""

    parts: tuple[Polygon, ...]
    holes: tuple[Polygon, ...] = ()
    details: tuple[tuple[Colour, Polygon], ...] = ()


def _polygon(*points: tuple[float, float]) -> Polygon:
    return np.array(points, dtype=float)


def _ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> Polygon:
    angles = np.radians(np.linspace(start, end, 48))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def _star() -> Shape:
    angles = np.radians(-90 + 36 * np.arange(10))
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.46)
    return Shape((np.stack([radii * np.cos(angles), 0.06 + radii * np.sin(angles)], axis=1),))


def _fish() -> Shape:
    return Shape(
        (_ellipse(-0.18, 0, 0.8, 0.56), _polygon((0.4, 0), (1, -0.55), (0.86, 0), (1, 0.55))),
        details=((PAPER, _ellipse(-0.6, -0.13, 0.13, 0.13)), (INK, _ellipse(-0.62, -0.13, 0.07, 0.07))),
    )


def _heart() -> Shape:
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return Shape((np.stack([x / 16.5, -(y + 2) / 15], axis=1),))


def _house() -> Shape:
    return Shape(
        (
            _polygon((-0.72, -0.1), (0.72, -0.1), (0.72, 0.92), (-0.72, 0.92)),
            _polygon((-1, -0.06), (0, -0.95), (1, -0.06)),
            _polygon((0.42, -0.9), (0.7, -0.9), (0.7, -0.2), (0.42, -0.2)),
        ),
        details=(
            (INK, _polygon((-0.2, 0.35), (0.2, 0.35), (0.2, 0.92), (-0.2, 0.92))),
            (PAPER, _polygon((0.36, 0.12), (0.6, 0.12), (0.6, 0.38), (0.36, 0.38))),
            (PAPER, _polygon((-0.6, 0.12), (-0.36, 0.12), (-0.36, 0.38), (-0.6, 0.38))),
        ),
    )


def _tree() -> Shape:
    return Shape(
        (
            _polygon((-0.46, -0.3), (0, -1), (0.46, -0.3)),
            _polygon((-0.64, 0.16), (0, -0.62), (0.64, 0.16)),
            _polygon((-0.82, 0.62), (0, -0.2), (0.82, 0.62)),
            _polygon((-0.17, 0.5), (0.17, 0.5), (0.17, 1), (-0.17, 1)),
        ),
    )


def _boat() -> Shape:
    return Shape(
        (
            _polygon((-1, 0.38), (1, 0.38), (0.62, 0.92), (-0.62, 0.92)),
            _polygon((-0.06, -1), (0.06, -1), (0.06, 0.45), (-0.06, 0.45)),
            _polygon((0.14, -0.92), (0.86, 0.24), (0.14, 0.24)),
            _polygon((-0.14, -0.7), (-0.7, 0.24), (-0.14, 0.24)),
        ),
    )


def _moon() -> Shape:
    return Shape((_ellipse(0, 0, 0.96, 0.96),), holes=(_ellipse(0.5, -0.18, 0.76, 0.76),))


def _cup() -> Shape:
    return Shape(
        (_polygon((-0.86, -0.78), (0.46, -0.78), (0.3, 0.86), (-0.7, 0.86)), _ellipse(0.46, -0.06, 0.52, 0.5)),
        holes=(_ellipse(0.58, -0.06, 0.23, 0.24),),
        details=((INK, _ellipse(-0.2, -0.76, 0.64, 0.12)),),
    )


def _cat() -> Shape:
    eyes = tuple(
        detail
        for x in (-0.34, 0.34)
        for detail in ((PAPER, _ellipse(x, 0.02, 0.17, 0.19)), (INK, _ellipse(x, 0.04, 0.08, 0.14)))
    )
    return Shape(
        (
            _ellipse(0, 0.16, 0.88, 0.74),
            _polygon((-0.86, 0.2), (-0.82, -0.96), (-0.16, -0.44)),
            _polygon((0.86, 0.2), (0.82, -0.96), (0.16, -0.44)),
        ),
        details=(*eyes, (INK, _polygon((-0.1, 0.34), (0.1, 0.34), (0, 0.48)))),
    )


def _flower() -> Shape:
    angles = np.radians(-90 + 60 * np.arange(6))
    petals = tuple(_ellipse(0.42 * np.cos(a), -0.3 + 0.42 * np.sin(a), 0.29, 0.29) for a in angles)
    stem = _polygon((-0.09, 0), (0.09, 0), (0.09, 1), (-0.09, 1))
    leaf = _polygon((0, 0.86), (0.2, 0.5), (0.62, 0.42), (0.46, 0.74))
    return Shape((*petals, _ellipse(0, -0.3, 0.35, 0.35), stem, leaf), details=((PAPER, _ellipse(0, -0.3, 0.19, 0.19)),))


def _rocket() -> Shape:
    return Shape(
        (
            _polygon((0, -1), (0.24, -0.72), (0.38, -0.3), (0.38, 0.62), (-0.38, 0.62), (-0.38, -0.3), (-0.24, -0.72)),
            _polygon((0.3, 0.06), (0.82, 0.56), (0.82, 0.96), (0.3, 0.6)),
            _polygon((-0.3, 0.06), (-0.82, 0.56), (-0.82, 0.96), (-0.3, 0.6)),
            _polygon((-0.2, 0.6), (0.2, 0.6), (0.28, 0.86), (-0.28, 0.86)),
        ),
        details=((PAPER, _ellipse(0, -0.24, 0.2, 0.2)), (INK, _ellipse(0, -0.24, 0.11, 0.11))),
    )


def _mushroom() -> Shape:
    return Shape(
        (
            _ellipse(0, 0.08, 0.98, 0.94, 180, 360),
            _ellipse(0, 0.08, 0.98, 0.2, 0, 180),
            _polygon((-0.27, 0.1), (0.27, 0.1), (0.36, 0.92), (-0.36, 0.92)),
        ),
    )


_DRAWN: dict[str, Callable[[], Shape]] = {
    "star": _star,
    "fish": _fish,
    "heart": _heart,
    "house": _house,
    "tree": _tree,
    "boat": _boat,
    "moon": _moon,
    "cup": _cup,
    "cat": _cat,
    "flower": _flower,
    "rocket": _rocket,
    "mushroom": _mushroom,
}
SHAPES: dict[str, Shape] = {name: draw() for name, draw in _DRAWN.items()}
CLASSES = tuple(SHAPES)
