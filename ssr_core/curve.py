"""A curve of numbers over steps as a picture: every number faint, their running mean plain, axes with numbers."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .sheet import INK, PAPER

POINTS, LINE = (188, 205, 232), (28, 88, 178)
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 26, 24
"""Margins in pixels."""
SHOWN = 0.97
"""Of the numbers, beneath the curve's top; the few above lie on it, so that they do not press the mean flat."""
SPAN = 1 / 20
"""Of the curve, over which the mean runs."""


def curve(numbers: Sequence[tuple[int, float]], title: str, size: tuple[int, int] = (640, 320)) -> Image.Image:
    """numbers: (step, value), steps ascending; an empty curve is an empty picture. size: width, height."""
    canvas = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    pen.text((LEFT, 6), title, INK, font)
    if not numbers:
        return canvas
    steps, values = [step for step, _ in numbers], [value for _, value in numbers]
    mean = smooth(values)
    low, high = min(0.0, *values), max(*mean, sorted(values)[int(SHOWN * (len(values) - 1))])
    high = high if high > low else low + 1e-6
    width, height = size[0] - LEFT - RIGHT, size[1] - TOP - BOTTOM

    def place(step: float, value: float) -> tuple[float, float]:
        along = (step - steps[0]) / max(steps[-1] - steps[0], 1)
        return LEFT + along * width, TOP + (high - min(value, high)) / (high - low) * height

    pen.rectangle((LEFT, TOP, LEFT + width, TOP + height), outline=POINTS)
    for value in (low, (low + high) / 2, high):
        pen.text((LEFT - 6, place(steps[0], value)[1]), f"{value:.3g}", INK, font, anchor="rm")
    for step, anchor in ((steps[0], "la"), (steps[-1], "ra")):
        pen.text((place(step, low)[0], TOP + height + 4), f"{step:,}", INK, font, anchor=anchor)
    for step, value in numbers:
        x, y = place(step, value)
        pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=POINTS)
    pen.line([place(step, value) for step, value in zip(steps, mean, strict=True)], fill=LINE, width=2)
    return canvas


def smooth(values: Sequence[float]) -> list[float]:
    """A running mean over a part of the curve that ends at each step."""
    span, found, total = max(1, round(len(values) * SPAN)), [], 0.0
    for number, value in enumerate(values):
        total += value - (values[number - span] if number >= span else 0.0)
        found.append(total / min(number + 1, span))
    return found
