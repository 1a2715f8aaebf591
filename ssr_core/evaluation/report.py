"""Reports as one HTML file each: tables, plots and pictures, readable without a server and without a network."""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..pictures import open_picture
from ..shown import percent
from .datasets import Entry

THUMBNAIL = 160
ROOM = 36
"""Pixels that a number below an axis needs; where the x of points lie closer, the axis marks equal parts instead."""
SCORES = ("CLIP-T", "CLIP-I", "DINO")
STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#26242c}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.3rem;width:160px;vertical-align:top}
figcaption{font-size:12px;color:#666}img{border-radius:6px}svg text{font:12px system-ui,sans-serif}"""


def page(title: str, parts: Sequence[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{html.escape(title)}</h1>{''.join(parts)}</html>"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The last cell of a row that has fewer than columns fills the others, as words do that stand for numbers."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cells(row, len(columns)))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cells(row: Sequence[Any], width: int) -> Iterator[str]:
    for place, cell in enumerate(row, 1):
        rest = width - place + 1 if place == len(row) else 1
        filling = f' colspan="{rest}" style="text-align:left"' if rest > 1 else ""
        yield f"<td{filling}>{html.escape(_shown(cell))}</td>"


def figure(picture: Image.Image | Path, caption: str) -> str:
    """A picture as a thumbnail inside the file."""
    small = open_picture(picture) if isinstance(picture, Path) else picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=88)
    source = base64.b64encode(encoded.getvalue()).decode()
    return f'<figure><img src="data:image/jpeg;base64,{source}" alt=""><figcaption>{html.escape(caption)}</figcaption></figure>'


def plot(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    top: float = 1.0,
    shown: Callable[[float], str] = percent,
    x_shown: Callable[[float], str] = "{:.4g}".format,
) -> str:
    """Lines over x as SVG, all y in 0..top; shown, x_shown: how numbers on the axes are written."""
    width, height, margin = 560, 300, 52
    xs = [x for points in lines.values() for x, _ in points]
    low, high = min(xs), max(xs)
    colours = ("#2050d0", "#d04020", "#20904a", "#8030a0", "#a07000", "#108090", "#d03090", "#606060")

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low) / ((high - low) or 1)
        return margin + across * (width - 2 * margin), height - margin - y / top * (height - 2 * margin)

    marks = []
    for y in (top * quarter / 4 for quarter in range(5)):
        left, level = place(low, y)
        marks.append(f'<line x1="{left}" y1="{level}" x2="{width - margin}" y2="{level}" stroke="#ddd"/>')
        marks.append(f'<text x="{left - 8}" y="{level + 4}" text-anchor="end">{shown(y)}</text>')
    marked = sorted(set(xs))
    near = any(place(after, 0)[0] - place(before, 0)[0] < ROOM for before, after in itertools.pairwise(marked))
    for x in [low + (high - low) * part / 5 for part in range(6)] if near else marked:
        across, bottom = place(x, 0)
        marks.append(f'<text x="{across}" y="{bottom + 18}" text-anchor="middle">{x_shown(x)}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = colours[number % len(colours)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*point) for point in points))
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        dots = [place(*point) for point in points]
        marks += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in dots]
        marks.append(f'<text x="{margin + 8}" y="{18 + 16 * number}" fill="{colour}">{html.escape(name)}</text>')
    marks.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">{html.escape(x_label)}</text>')
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = 'font-family="sans-serif" font-size="13" style="background: white"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(marks)}</svg>'


def write_benchmark(path: Path, report: Mapping[str, Any], shown: Sequence[tuple[Entry, Sequence[Path]]]) -> None:
    """Scores of every entry, and its references beside what was drawn."""
    means = report["means"]
    lines = [["mean", *_scores(means)]]
    if "authors" in means:
        lines.append(["mean, scored as the authors do", *_scores(means["authors"])])
    parts = [
        table(["", *SCORES], lines),
        table(["entry", "pictures", *SCORES], [[row["entry"], row["pictures"], *_scores(row)] for row in report["entries"]]),
    ]
    for entry, drawn in shown:
        figures = [figure(concept.pictures[0], f"reference: {concept.word}") for concept in entry.concepts]
        copies = len(drawn) // len(entry.prompts)
        figures += [figure(path, entry.prompts[number // copies]) for number, path in enumerate(drawn) if number % copies == 0]
        parts.append(f"<h2>{html.escape(entry.name)}</h2>{''.join(figures)}")
    path.write_text(page("Benchmark", parts), encoding="utf-8")


def _scores(row: Mapping[str, Any]) -> list[float]:
    return [row["clip_t"], row["clip_i"], row["dino"]]


def _shown(cell: Any) -> str:
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
