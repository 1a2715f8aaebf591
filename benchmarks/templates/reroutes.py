"""Links that would run behind a node are led around it by reroute points, as a user drags them out of a link.

Curves are those of the host's canvas: from a node straight out of its socket, through a point at the mean of the angles on its sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .graph import Graph

SOCKET, TITLE, SLOT = 0.7, 30, 20
"""Where a socket stands in its row; heights of a title and of a row, in the host's canvas."""
KEPT_AWAY = 8
"""How far a link keeps away from nodes that it passes, in pixels; a point itself is drawn twice as large as that."""
STRAIGHT, MOST = 0.25, 80
"""How far a curve goes straight on, of the distance to the next point, and at most where it passes a point."""
ABOVE = 40
"""How far above the topmost node a point may stand."""
STEPS, MOST_POINTS, ROUNDS, WAYS, GRID = 72, 3, 40, 1000, 10

Floats = NDArray[np.float64]


class _Link(NamedTuple):
    """start, stop: (x, y) of its sockets; ends: numbers of its nodes."""

    start: tuple[float, float]
    stop: tuple[float, float]
    ends: tuple[int, int]


def lead_around(graph: Graph) -> int:
    """Give links that pass behind nodes as few points as it takes that they do not. Returns how many still do."""
    boxes = np.array([(x, y - TITLE, x + w, y + h) for x, y, w, h in ((*node.pos, *node.size) for node in graph.nodes)], float)
    numbers = {node: number for number, node in enumerate(graph.nodes)}
    left = 0
    for number, (node, socket, _), target, name in graph.links:
        if "widget" in next(entry for entry in target.inputs if entry["name"] == name):
            continue
        link = _Link(
            (node.pos[0] + node.size[0], node.pos[1] + (socket + SOCKET) * SLOT),
            (target.pos[0], target.pos[1] + (target.socket(name) + SOCKET) * SLOT),
            (numbers[node], numbers[target]),
        )
        if not _hidden(link, np.empty((1, 0, 2)), boxes)[0]:
            continue
        if (points := _search(link, boxes, np.random.default_rng(number))) is None:
            left += 1
        else:
            graph.reroutes[number] = [(int(x), int(y)) for x, y in points]
    return left


def _search(link: _Link, boxes: Floats, rng: np.random.Generator) -> Floats | None:
    """[K, 2]: the shortest of many ways that pass behind nothing, with as few points as will do."""
    for count in range(1, MOST_POINTS + 1):
        best = None
        for _ in range(ROUNDS):
            ways = _ways(link, count, boxes, rng)
            ways = ways[~_hidden(link, ways, boxes)]
            if len(ways):
                lengths = _lengths(link, ways)
                if best is None or lengths.min() < best[0]:
                    best = lengths.min(), ways[lengths.argmin()]
        if best:
            return best[1]
    return None


def _ways(link: _Link, count: int, boxes: Floats, rng: np.random.Generator) -> Floats:
    """[W, K, 2] points on the grid, from left to right, none on a node."""
    low = min(link.start[0], link.stop[0]), boxes[:, 1].min() - ABOVE
    high = max(link.start[0], link.stop[0]), boxes[:, 3].max()
    points = GRID * np.round(rng.uniform(low, high, (WAYS, count, 2)) / GRID)
    points = np.take_along_axis(points, points[..., :1].argsort(axis=1), axis=1)
    return points[~_inside(points, boxes, 2 * KEPT_AWAY).any((1, 2))]


def _lengths(link: _Link, ways: Floats) -> Floats:
    corners = _corners(link, ways)
    return np.linalg.norm(np.diff(corners, axis=1), axis=-1).sum(-1)


def _hidden(link: _Link, ways: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Which of [W, K, 2] ways pass behind a node. The link's own nodes count where it has points, which could lead it back."""
    curves = _curves(link, ways)
    inside = _inside(curves, boxes, KEPT_AWAY)
    inside[..., link.ends] = _inside(curves, boxes[list(link.ends)], -1) if ways.shape[1] else False
    return inside.any((1, 2))


def _inside(points: Floats, boxes: Floats, margin: float) -> NDArray[np.bool_]:
    """Of [W, P, 2] points in [N, 4] boxes (left, top, right, bottom): [W, P, N]."""
    x, y = points[..., :1], points[..., 1:]
    left, top, right, bottom = boxes.T
    return (x > left - margin) & (x < right + margin) & (y > top - margin) & (y < bottom + margin)


def _corners(link: _Link, ways: Floats) -> Floats:
    """[W, K + 2, 2] with the sockets."""
    ends = (np.broadcast_to(end, (len(ways), 1, 2)) for end in (link.start, link.stop))
    return np.concatenate([next(ends), ways, next(ends)], axis=1)


def _curves(link: _Link, ways: Floats) -> Floats:
    """[W, P, 2] points of links (litegraph's Reroute.calculateAngle and renderLinkDirect)."""
    corners = _corners(link, ways)
    steps = np.diff(corners, axis=1)  # [W, K + 1, 2]
    distances = np.linalg.norm(steps, axis=-1, keepdims=True)
    angles = np.arctan2(steps[..., 1], steps[..., 0])
    half = (angles[:, :-1] - angles[:, 1:]) / 2
    through = angles[:, :-1] - np.where(np.abs(half) > np.pi / 2, half + np.pi, half)  # [W, K]
    through = np.stack([np.cos(through), np.sin(through)], axis=-1)
    straight = np.broadcast_to([STRAIGHT, 0.0], (len(ways), 1, 2))
    bends = np.minimum(MOST, STRAIGHT * distances)
    leaving = np.concatenate([straight * distances[:, :1], through * bends[:, 1:]], axis=1)
    entering = np.concatenate([through * bends[:, :-1], straight * distances[:, -1:]], axis=1)
    start, stop = corners[:, :-1, None], corners[:, 1:, None]  # [W, K + 1, 1, 2]
    t = np.linspace(0, 1, STEPS)[:, None]
    curves = (
        (1 - t) ** 3 * start
        + 3 * t * (1 - t) ** 2 * (start + leaving[:, :, None])
        + 3 * t**2 * (1 - t) * (stop - entering[:, :, None])
        + t**3 * stop
    )
    return curves.reshape(len(ways), -1, 2)
