"""Picture files opened as people see them: upright, in the range they were made in, as 8-bit RGB or as a mask.

Knows files and colour modes. Which part of a picture a vision model sees, and how, is the business of vision.py.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .paths import mode_of
from .shown import shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""How names of pictures end, where a folder is searched for them."""

FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "WEBP",
    "BMP",
    "DIB",
    "GIF",
    "TIFF",
    "PPM",
    "TGA",
    "JPEG2000",
    "AVIF",
    "HEIF",
    "ICO",
    "PCX",
    "PSD",
)
"""Formats that are opened. Pillow knows more, among them EPS and WMF, for which it starts a program."""

MOST_PIXELS = 178_000_000
"""Of a picture, told before it is decoded; the largest cameras make 151 million."""
MOST_OBLONG = 200
"""Times that one side may be as long as the other: models scale the shorter side up, and the longer with it."""

SIXTEEN_BITS = 65535
SIXTEEN_BITS_AS_I = ("PNG", "PPM")
"""Formats whose 16-bit pictures some versions of Pillow open in the 32-bit mode "I"."""


def open_picture(source: Path | IO[bytes], name: str = "", upright: bool = True) -> Image.Image:
    """A picture file as 8-bit RGB, turned upright. Transparency is dropped: the colours under it show, as in the host's Load Image.

    name: what errors call a source without a path. upright=False: as its pixels are stored, where somebody tells places in them.
    Raises FileNotFoundError, or ValueError that names the file.
    """
    with _opened(source, name, upright) as picture:
        levels = _levels(picture)
        if levels is not None:
            return Image.fromarray((levels * 255).round().astype(np.uint8)).convert("RGB")
        return _without_palette(picture).convert("RGB")


def open_mask(source: Path | IO[bytes], name: str = "") -> Tensor:
    """A mask file as [H, W] in 0..1, turned upright: its alpha unless that is opaque everywhere, else its brightness.

    Opaque pixels are marked, so that a cut-out marks what was cut out. (The host's Load Image marks transparent pixels, which are
    those that were painted in its mask editor.) name and errors are as for open_picture.
    """
    with _opened(source, name) as picture:
        levels = _levels(picture)
        if levels is not None:
            return torch.from_numpy(levels.astype(np.float32))
        picture = _without_palette(picture)
        if "A" in picture.getbands() and bool((alpha := _shares(picture.getchannel("A"))).min() < 1):
            return alpha
        # Other modes than these cannot be turned into grey directly, so they go through RGB.
        return _shares((picture if picture.mode in ("1", "L", "LA", "RGB", "RGBA") else picture.convert("RGB")).convert("L"))


def open_labels(source: Path | IO[bytes], name: str = "") -> NDArray[np.int32]:
    """A label map: the number that each pixel is stored as, [H, W], a palette's colours aside. name and errors are as for open_picture."""
    with _opened(source, name, upright=False) as picture:
        if picture.mode not in ("1", "L", "P", "I") and not picture.mode.startswith("I;16"):
            raise ValueError(
                f"it has {len(picture.getbands())} channels of mode {picture.mode}; a label map has one of whole numbers"
            )
        return np.asarray(picture).astype(np.int32)


class PictureTooLarge(ValueError):
    """More pixels than are decoded here."""


def _shares(grey: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)


@contextmanager
def _opened(source: Path | IO[bytes], name: str, upright: bool = True) -> Iterator[Image.Image]:
    """The whole picture, upright or as it is stored. Errors name it."""
    named = shown(name or str(source))
    if isinstance(source, str | os.PathLike):
        _check_file(Path(source), named)
    try:
        with _header(source) as picture:
            _check_size(picture, named)
            picture.load()
            turned = ImageOps.exif_transpose(picture) if upright else picture
            turned.format = picture.format
            yield turned
    except (MemoryError, PictureTooLarge):
        raise
    except Image.DecompressionBombError as error:
        raise PictureTooLarge(f"{named} is too large ({error}). Give a smaller copy of it.") from error
    except Exception as error:
        # Pillow raises OSErrors without a number. One with a number is the system's, such as no permission to read the file.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(
            f"{named} cannot be read as a picture ({reason}). It is truncated, damaged or something else; give another file."
        ) from error


def _check_file(path: Path, named: str) -> None:
    kind = mode_of(path)
    if not kind or stat.S_ISDIR(kind):
        raise FileNotFoundError(f"There is no picture {named}.")
    if not stat.S_ISREG(kind):
        raise ValueError(f"{named} is a pipe or a device; give a picture file.")


def _header(source: Path | IO[bytes]) -> Image.Image:
    """A picture whose pixels are not read yet."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _check_size refuses in words
        return Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])


def _check_size(picture: Image.Image, named: str) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise PictureTooLarge(
            f"{named} is too large ({width} x {height}; at most {MOST_PIXELS:,} pixels are read). Give a smaller copy of it."
        )
    if max(width, height) > MOST_OBLONG * min(width, height):
        raise PictureTooLarge(
            f"{named} is too narrow ({width} x {height}; one side may be {MOST_OBLONG} times as long as the other). Cut a part out."
        )


def _levels(picture: Image.Image) -> NDArray[np.float64] | None:
    """A grey picture of more than 8 bits as numbers in 0..1; None for all others, which Pillow converts without loss of range.

    16-bit numbers range from 0 to 65535. 32-bit numbers have no fixed range: if all lie in 0..1 they stay as they are, else they are
    stretched so that the least becomes 0 and the greatest 1.
    """
    if not picture.mode.startswith(("I", "F")):
        return None
    values = np.asarray(picture).astype(np.float64)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in SIXTEEN_BITS_AS_I):
        return values / SIXTEEN_BITS
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("it holds no numbers, only NaN or infinity")
    least, greatest = finite.min(), finite.max()
    if (least < 0 or greatest > 1) and least < greatest:
        values = (values - least) / (greatest - least)
    return np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)


def _without_palette(picture: Image.Image) -> Image.Image:
    """The picture without a palette; the transparency that a palette, or one colour of a picture, may have becomes its alpha."""
    return picture.convert("RGBA") if picture.mode in ("P", "PA") or "transparency" in picture.info else picture
