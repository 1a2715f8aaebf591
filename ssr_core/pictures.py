"""Picture files opened as people see them: upright, in the range they were made in, as 8-bit RGB or as a mask.

Knows files and modes; what part of a picture a vision model sees, and how, is vision.py's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Files with these names are pictures where a folder is searched for them."""

SIXTEEN_BITS = 65535
SIXTEEN_BITS_AS_I = ("PNG", "PPM")
"""Formats whose 16 bits some versions of Pillow open in the mode of 32."""


def open_picture(source: Path | IO[bytes], name: str = "") -> Image.Image:
    """A picture file as 8-bit RGB, turned upright. Transparency is dropped: the colours below it show, as in the host's Load Image.

    name: of a source that has none, for errors. Raises FileNotFoundError, or ValueError that names the file.
    """
    with _opened(source, name) as picture:
        levels = _levels(picture)
        if levels is not None:
            return Image.fromarray((levels * 255).round().astype(np.uint8)).convert("RGB")
        return _without_palette(picture).convert("RGB")


def open_mask(source: Path | IO[bytes], name: str = "") -> Tensor:
    """A mask file as [H, W] in 0..1, turned upright: its alpha where that is not opaque all over, else how bright it is.

    Opaque is marked, so that a cut-out marks what was cut out. (The host's Load Image marks what is transparent: there it is where
    somebody painted.) name and errors as for open_picture.
    """
    with _opened(source, name) as picture:
        levels = _levels(picture)
        if levels is not None:
            return torch.from_numpy(levels.astype(np.float32))
        picture = _without_palette(picture)
        if "A" in picture.getbands() and bool((alpha := _shares(picture.getchannel("A"))).min() < 1):
            return alpha
        # By way of RGB, as other modes than these have no way to grey of their own.
        return _shares((picture if picture.mode in ("1", "L", "LA", "RGB", "RGBA") else picture.convert("RGB")).convert("L"))


def _shares(grey: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)


@contextmanager
def _opened(source: Path | IO[bytes], name: str) -> Iterator[Image.Image]:
    """The whole picture, upright. Whatever goes wrong with it is told in words that name it."""
    shown = name or str(source)
    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        raise FileNotFoundError(f"There is no picture {shown}.")
    try:
        with Image.open(source) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            upright.format = picture.format
            yield upright
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"{shown} is too large ({error}). Give a smaller copy of it.") from error
    except Exception as error:
        # Pillow's own complaints are OSErrors without a number; one with a number is the system's: no right to read the file, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(
            f"{shown} cannot be read as a picture ({reason}). It is truncated, damaged or something else; give another file."
        ) from error


def _levels(picture: Image.Image) -> NDArray[np.float64] | None:
    """A grey picture of more than 8 bits as numbers in 0..1; None for all others, which Pillow converts without loss of range.

    16 bits go from 0 to 65535. Numbers of 32 bits have no range of their own: those in 0..1 stay as they are, all others are stretched
    from the least to the greatest.
    """
    if not picture.mode.startswith(("I", "F")):
        return None
    values = np.asarray(picture).astype(np.float64)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in SIXTEEN_BITS_AS_I):
        return values / SIXTEEN_BITS
    finite = values[np.isfinite(values)]
    least, greatest = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if (least < 0 or greatest > 1) and least < greatest:
        values = (values - least) / (greatest - least)
    return np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)


def _without_palette(picture: Image.Image) -> Image.Image:
    """A palette's colours in their places, with the transparency that a palette, or one colour of a picture, may have."""
    return picture.convert("RGBA") if picture.mode in ("P", "PA") or "transparency" in picture.info else picture
