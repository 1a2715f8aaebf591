"""Contact sheets: rows of labelled pictures in one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .maps import ReferenceMap, attention_map

Labelled = tuple[str, Image.Image]

MARGIN, LINE = 8, 18
PAPER, INK = (255, 255, 255), (40, 40, 48)


def sheet(rows: Sequence[Sequence[Labelled]], side: int = 192) -> Image.Image:
    """Rows of pictures, each under its label, every picture a square of `side` pixels."""
    font = ImageFont.load_default(13)
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * (side + MARGIN) + MARGIN, len(rows) * (side + LINE + MARGIN) + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    for number, row in enumerate(rows):
        top = MARGIN + number * (side + LINE + MARGIN)
        for place, (label, picture) in enumerate(row):
            left = MARGIN + place * (side + MARGIN)
            pen.text((left, top), _fitting(pen, label, side, font), INK, font)
            canvas.paste(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (left, top + LINE))
    return canvas


def heat_picture(looks: ReferenceMap, reference: Image.Image | None = None) -> Image.Image:
    """The reference at its own size, dark where the query does not look; without one, the square that the encoder saw."""
    picture = None if reference is None else from_picture(reference)
    return to_picture(attention_map(looks, picture)[0][0])


def from_picture(picture: Image.Image) -> Tensor:
    """8-bit RGB as [H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)


def to_picture(image: Tensor) -> Image.Image:
    """[H, W, 3] in 0..1 as 8-bit RGB."""
    return Image.fromarray((image.float().cpu().numpy() * 255).round().astype(np.uint8))


def _fitting(pen: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, shortened at its end to fit."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(text + "...", font) > width:
        text = text[:-1]
    return text + "..."
