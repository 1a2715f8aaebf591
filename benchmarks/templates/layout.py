"""Where nodes stand: columns from left to right, and heights such that no link runs behind a node that it does not belong to.

Links are drawn as the host's canvas draws them; heights are searched by chance from a fixed seed, so that a graph always comes out alike.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Node

TITLE, SLOT = 30, 20
"""Heights of a node's title and of a row of sockets, in the host's canvas."""
GAP_X, GAP_Y = 40, 26
MARGIN = 8
"""How far a link keeps away from nodes that it passes."""
STEPS, ROUNDS, TRIES = 48, 16000, 6
GRID = 10


class _Problem:
    """left: [N]; size: [N, 2]; ends: source, its socket's height in the node, target, its socket's height."""

    def __init__(self, left: NDArray[np.float64], size: NDArray[np.float64], ends: list[tuple[int, float, int, float]]) -> None:
        self.size = size
        self.source, self.down, self.target, self.up = (np.array(column) for column in zip(*ends, strict=True))
        self.start, self.stop = (left + size[:, 0])[self.source], left[self.target]  # [L]
        t = np.linspace(0, 1, STEPS)
        self.weights = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])  # [4, STEPS]
        self.low, self.high = left - MARGIN, left + size[:, 0] + MARGIN
        others = np.ones((len(ends), len(left)), dtype=bool)
        for ends_of in (self.source, self.target):
            others[np.arange(len(ends)), ends_of] = False
        self.others = others[:, None, :]  # [L, 1, N]

    def hidden(self, top: NDArray[np.float64]) -> int:
        """Points of links that lie behind a node which is neither of their ends."""
        one, two, three, four = self.weights[:, None, :]
        begin, end = (top[self.source] + self.down)[:, None], (top[self.target] + self.up)[:, None]
        start, stop = self.start[:, None], self.stop[:, None]
        bend = 0.25 * np.hypot(stop - start, end - begin)
        x = (one + two) * start + (three + four) * stop + (two - three) * bend  # [L, STEPS]
        y = ((one + two) * begin + (three + four) * end)[..., None]
        x = x[..., None]
        inside = (x > self.low) & (x < self.high) & (y > top - TITLE - MARGIN) & (y < top + self.size[:, 1] + MARGIN)
        return int((inside & self.others).sum())

    def travel(self, top: NDArray[np.float64]) -> float:
        """How far links go up and down."""
        return float(np.abs(top[self.source] + self.down - top[self.target] - self.up).sum())


def place(graph: Graph, heights: Sequence[int]) -> int:
    """Give every node its place. heights: of the whole graph, each tried before the next. Returns how many points
    of links stay behind nodes where no better places were found."""
    columns = [list(column) for column in graph.columns]
    number_of = {node: number for number, node in enumerate(graph.nodes)}
    left = np.zeros(len(graph.nodes))
    x = 0
    for column in columns:
        for node in column:
            left[number_of[node]] = x
        x += max(node.size[0] for node in column) + GAP_X
    problem = _Problem(
        left,
        np.array([node.size for node in graph.nodes], dtype=float),
        [
            (number_of[source.node], _height(source.number), number_of[target], _height(target.socket(name)))
            for _, source, target, name in graph.links
            if "widget" not in next(entry for entry in target.inputs if entry["name"] == name)
        ],
    )
    found = []
    for tallest, seed in itertools.product(heights, range(TRIES)):
        cost, tops = _search(problem, columns, number_of, tallest, random.Random(seed))
        if math.isfinite(cost):
            found.append((problem.hidden(tops), cost, tops))
        if found and not found[-1][0]:
            break
    if not found:
        raise ValueError(f"A column is higher than {heights[-1]}; make more columns.")
    hidden, _, tops = min(found, key=lambda one: one[:2])
    for node, number in number_of.items():
        node.pos = (int(left[number]), int(tops[number]))
    return hidden


def _height(socket: int) -> float:
    return (socket + 0.7) * SLOT


def _search(
    problem: _Problem, columns: list[list[Node]], number_of: dict[Node, int], tallest: int, rng: random.Random
) -> tuple[float, NDArray[np.float64]]:
    """Simulated annealing over the gaps above the nodes and their order in a column."""
    columns = [list(column) for column in columns]
    gaps = [[0.0] * len(column) for column in columns]
    for number, column in enumerate(columns[1:], start=1):  # as stairs that lead up: links over a column pass above it
        room = tallest + GAP_Y - sum(node.size[1] + TITLE + GAP_Y for node in column)
        gaps[number][0] = GRID * (max(0.0, room) * (1 - number / len(columns)) // GRID)

    def tops() -> NDArray[np.float64]:
        found = np.zeros(len(number_of))
        for column, above in zip(columns, gaps, strict=True):
            y = 0.0
            for node, gap in zip(column, above, strict=True):
                y += gap + TITLE
                found[number_of[node]] = y
                y += node.size[1] + GAP_Y
        return found

    def cost(top: NDArray[np.float64]) -> float:
        tall = float((top + problem.size[:, 1]).max())
        if tall > tallest:
            return math.inf
        return 8000 / STEPS * problem.hidden(top) + 0.3 * tall + 0.15 * problem.travel(top)

    now = tops()
    worth = cost(now)
    best = worth, now
    for step in range(ROUNDS):
        column = rng.randrange(len(columns))
        row = rng.randrange(len(columns[column]))
        kept = list(gaps[column]), list(columns[column])
        if rng.random() < 0.15 and len(columns[column]) > 1:
            other = rng.randrange(len(columns[column]))
            order = columns[column]
            order[row], order[other] = order[other], order[row]
        else:
            moved = max(0.0, gaps[column][row] + GRID * rng.choice((-20, -8, -3, -1, 1, 3, 8, 20)))
            if rng.random() < 0.5 and row + 1 < len(gaps[column]):  # what follows stays
                gaps[column][row + 1] = max(0.0, gaps[column][row + 1] - moved + gaps[column][row])
            gaps[column][row] = moved
        after = tops()
        new = cost(after)
        heat = 4000 * 0.001 ** (step / ROUNDS)
        if new <= worth or rng.random() < math.exp((worth - new) / heat):
            worth, now = new, after
            if worth < best[0]:
                best = worth, now
        else:
            gaps[column], columns[column] = kept
    return best
