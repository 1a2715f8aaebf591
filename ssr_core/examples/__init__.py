"""Photographs to try the real models on without bringing any, with the outline of an object in each. CREDITS.md says whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

FOLDER = Path(__file__).parent
FINER = 4
"""Outlines are drawn at this many times the size and shrunk, for soft edges."""


class Example(NamedTuple):
    """file: the photograph's name. outline: corners around the object, in its pixels, x first."""

    file: str
    outline: tuple[tuple[int, int], ...]


EXAMPLES = {
    "cat": Example(
        "cat.jpg",
        (
            (35, 0), (30, 60), (40, 95), (0, 130), (0, 300), (320, 300), (345, 250), (355, 200), (362, 150), (365, 110), (355, 70),
            (395, 15), (398, 0),
        ),
    ),
    "cup": Example(
        "coffee.jpg",
        (
            (173, 105), (190, 60), (225, 32), (290, 18), (350, 28), (390, 60), (404, 105), (394, 140), (370, 195), (318, 262),
            (264, 284), (246, 306), (211, 309), (196, 284), (206, 248), (191, 193), (176, 133),
        ),
    ),
    "spoon": Example(
        "coffee.jpg",
        (
            (399, 70), (412, 66), (423, 74), (418, 105), (400, 160), (388, 205), (380, 228), (398, 250), (406, 275), (402, 300),
            (385, 320), (362, 325), (340, 318), (328, 298), (326, 275), (335, 252), (350, 235), (366, 226), (378, 190), (392, 150),
        ),
    ),
    "rocket": Example(
        "rocket.jpg", ((320, 126), (330, 142), (334, 165), (334, 405), (309, 405), (309, 165), (312, 142))
    ),
}  # fmt: skip
"""By the object that is marked: a photograph with two of them is there twice."""


def example(name: str) -> tuple[Image.Image, np.ndarray]:
    """A photograph and where its object is: [H, W] in 0..1, white inside."""
    file, outline = EXAMPLES[name]
    with Image.open(FOLDER / file) as opened:
        picture = opened.convert("RGB")
    large = Image.new("L", (picture.width * FINER, picture.height * FINER))
    ImageDraw.Draw(large).polygon([(x * FINER, y * FINER) for x, y in outline], fill=255)
    return picture, np.asarray(large.resize(picture.size, Image.Resampling.BOX), dtype=np.float32) / 255
