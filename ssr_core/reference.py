"""Reference pictures of one object, as methods that know objects alone want them: cut out, on white, in the middle of a square.

Knows pictures, masks and boxes. A mask lies over the whole picture, whatever its own size, and what is above 0.5 in it belongs to the
object; holes are filled. Where masks come from, and how the vision model's square is made of the result (vision.py), is for others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .finite import finite

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are the first beyond it."""

WHITE = (255, 255, 255)
LARGEST_SIDE = 4096
"""Of a crop before it is padded; a longer one is made smaller first. A thin line through a large picture would else fill the memory."""
FRAME_SIDE, CROP_SIDE = 800, 224
"""Of hqhQAQ/MIP-Adapter, data/concept101_dataset.py: the shorter side of the frame that detection boxes are told in, and the side of
the crop."""


def reference_picture(picture: Image.Image, mask: ArrayLike | None = None, box: Sequence[float] | None = None) -> Image.Image:
    """What a method sees of a reference: the picture as it is; or, where a mask or a box tells the object, that alone.

    mask: [h, w] in 0..1 or of booleans; outside of it all becomes white. box: what is cut out; by default where the mask is. The cut
    stands in the middle of a white square, as in hqhQAQ/MIP-Adapter, data/subject_dataset.py, where the square may lack a row.
    Raises ValueError where the mask marks nothing or the box is none.
    """
    picture = picture.convert("RGB")
    if mask is None and box is None:
        return picture
    where = None if box is None else box_within(box, picture.size)
    if mask is not None:
        chosen = filled(marked(mask, picture.size))
        where = where or bounds(chosen)
        pixels = np.where(chosen[..., None], np.asarray(picture), np.uint8(255))  # [H, W, 3]
        picture = Image.fromarray(pixels)
    assert where is not None
    return squared(picture.crop(where))


def detected_object(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """A benchmark's reference cut to its detection box: 224 x 224, as in hqhQAQ/MIP-Adapter, data/concept101_dataset.py.

    box: in pixels of the picture scaled to a shorter side of 800. Both resizings are Pillow's bilinear one, and both truncate. The box
    ends with that frame, where there the crop would go on in black. Raises ValueError for a box that is none.
    """
    picture = picture.convert("RGB")
    width, height = picture.size
    tall = width < height
    size = (FRAME_SIDE, int(FRAME_SIDE * height / width)) if tall else (int(FRAME_SIDE * width / height), FRAME_SIDE)
    cut = picture.resize(size, Image.Resampling.BILINEAR).crop(box_within(box, size))
    ratio = cut.width / cut.height
    size = (CROP_SIDE, int(CROP_SIDE / ratio)) if ratio > 1 else (int(CROP_SIDE * ratio), CROP_SIDE)
    return squared(cut.resize((max(1, size[0]), max(1, size[1])), Image.Resampling.BILINEAR))


def marked(mask: ArrayLike, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels of a picture of that (width, height) a mask of any size marks: [H, W]. Raises ValueError where it marks none."""
    values = np.asarray(mask, dtype=np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"The mask of a reference has shape {values.shape}; expected one mask, [height, width].")
    if values.shape != (size[1], size[0]):
        values = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    chosen = values > 0.5
    if not chosen.any():
        raise ValueError(
            "The mask of the reference marks nothing; expected some area above 0.5. Paint the object in the mask, or leave the mask out. "
            "(Load Image gives an all-zero MASK for a picture without alpha.)"
        )
    return chosen


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with what lies inside it: every pixel that has marked ones, or is one, to its left and right, above and below. [H, W]

    So does hqhQAQ/MIP-Adapter, data/subject_dataset.py, but that it loses the last marked pixel of every row and column.
    """
    inside = mask.copy()
    inside[:] = True
    for axis in (0, 1):
        for side in (mask, np.flip(mask, axis)):
            reached = np.logical_or.accumulate(side, axis=axis)
            inside &= reached if side is mask else np.flip(reached, axis)
    return inside


def bounds(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around what a mask marks."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_within(box: Sequence[float], size: tuple[int, int], what: str = "box") -> Box:
    """Whole pixels of a box, ending where the picture of that (width, height) does. Raises ValueError for a box that is none.

    what: how to name it.
    """
    if len(box) != 4:
        raise ValueError(f"A box has {len(box)} numbers; expected left, top, right and bottom in pixels.")
    left, top, right, bottom = (int(finite(value, "A box's side", -1e9, 1e9)) for value in box)
    within = max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)
    if within[0] >= within[2] or within[1] >= within[3]:
        raise ValueError(
            f"The {what} {left}, {top}, {right}, {bottom} holds no pixel of a picture of {size[0]} x {size[1]}; expected left < right and "
            "top < bottom inside it."
        )
    return within


def squared(picture: Image.Image) -> Image.Image:
    """The picture in the middle of a white square."""
    if max(picture.size) > LARGEST_SIDE:
        picture = picture.copy()
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BICUBIC)
    side = max(picture.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square
