"""The named backgrounds of the drawn world: a wide upper and lower field and some decoration, pale or dark, never saturated."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .looks import Colour


@dataclass(frozen=True)
class Background:
    """phrase: how a caption says it. top, bottom: colours of the two fields. accent: of the decoration."""

    phrase: str
    top: Colour
    bottom: Colour
    accent: Colour


BACKGROUNDS: dict[str, Background] = {
    "meadow": Background("on a green meadow", (196, 228, 246), (164, 208, 140), (136, 186, 114)),
    "beach": Background("on a sandy beach", (206, 240, 240), (244, 228, 184), (226, 204, 150)),
    "snow": Background("in the white snow", (206, 212, 228), (248, 250, 254), (224, 230, 242)),
    "night": Background("under the night sky", (38, 42, 78), (58, 66, 112), (206, 206, 190)),
    "forest": Background("in a dark forest", (132, 160, 136), (84, 108, 86), (106, 118, 98)),
    "sea": Background("on the blue sea", (222, 236, 240), (120, 178, 208), (152, 202, 224)),
    "room": Background("in a pink room", (246, 218, 222), (204, 170, 146), (238, 200, 208)),
    "desert": Background("in the desert", (252, 216, 176), (214, 158, 116), (196, 138, 100)),
}
HORIZON = 0.55
"""Where the lower field begins, as a share of the height; pictures vary around it."""


def paint(name: str, side: int, rng: random.Random) -> Image.Image:
    """A square picture of the background; decoration and horizon vary with rng."""
    background = BACKGROUNDS[name]
    picture = Image.new("RGB", (side, side), background.top)
    draw = ImageDraw.Draw(picture)
    horizon = int(side * (HORIZON + rng.uniform(-0.06, 0.06)))
    draw.rectangle((0, horizon, side, side), fill=background.bottom)
    _DECORATIONS[name](draw, side, horizon, background, rng)
    return picture


def _spots(draw: ImageDraw.ImageDraw, side: int, top: int, bottom: int, colour: Colour, rng: random.Random, count: int) -> None:
    for _ in range(count):
        x, y, r = rng.uniform(0, side), rng.uniform(top, bottom), side * rng.uniform(0.008, 0.014)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _hills(draw: ImageDraw.ImageDraw, side: int, horizon: int, background: Background, rng: random.Random) -> None:
    for _ in range(2):
        x, r = rng.uniform(0, side), side * rng.uniform(0.25, 0.4)
        draw.ellipse((x - r, horizon - 0.25 * r, x + r, horizon + r), fill=background.bottom)
    _spots(draw, side, int(horizon + 0.05 * side), side, background.accent, rng, 14)


def _ground(draw: ImageDraw.ImageDraw, side: int, horizon: int, background: Background, rng: random.Random) -> None:
    _spots(draw, side, int(horizon + 0.04 * side), side, background.accent, rng, 16)


def _sky(draw: ImageDraw.ImageDraw, side: int, horizon: int, background: Background, rng: random.Random) -> None:
    _spots(draw, side, 0, horizon, background.accent, rng, 18)


def _waves(draw: ImageDraw.ImageDraw, side: int, horizon: int, background: Background, rng: random.Random) -> None:
    for _ in range(9):
        x, y, w = rng.uniform(0, side), rng.uniform(horizon + 0.05 * side, side), side * rng.uniform(0.06, 0.12)
        draw.arc((x - w, y - 0.3 * w, x + w, y + 0.3 * w), 200, 340, fill=background.accent, width=max(2, side // 80))


def _trunks(draw: ImageDraw.ImageDraw, side: int, horizon: int, background: Background, rng: random.Random) -> None:
    for _ in range(5):
        x, w = rng.uniform(0, side), side * rng.uniform(0.02, 0.035)
        draw.rectangle((x - w, 0, x + w, horizon + 0.03 * side), fill=background.accent)


def _wallpaper(draw: ImageDraw.ImageDraw, side: int, horizon: int, background: Background, rng: random.Random) -> None:
    offset = rng.uniform(0, 0.125) * side
    for index in range(8):
        x = offset + index * side * 0.125
        draw.rectangle((x, 0, x + side * 0.03, horizon - 1), fill=background.accent)


def _dunes(draw: ImageDraw.ImageDraw, side: int, horizon: int, background: Background, rng: random.Random) -> None:
    x, r = rng.uniform(0, side), side * rng.uniform(0.3, 0.5)
    draw.ellipse((x - r, horizon - 0.16 * r, x + r, horizon + 0.5 * r), fill=background.bottom)
    _waves(draw, side, horizon, background, rng)


_DECORATIONS = {
    "meadow": _hills,
    "beach": _ground,
    "snow": _hills,
    "night": _sky,
    "forest": _trunks,
    "sea": _waves,
    "room": _wallpaper,
    "desert": _dunes,
}
