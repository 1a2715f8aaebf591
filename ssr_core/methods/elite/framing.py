"""What of a picture ELITE sees: the part that is stretched to the vision model's square, the object on black, and the mask on the grid.

One rule for masks: 0.5 and more is object. The authors stretch the whole picture; their training pictures are tight crops, so that a square
around the object is nearer to what the weights know, and keeps its proportions.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ... import finite
from ...maps import Box
from ...masks import as_masks
from ...reference import bounds
from ...vision import MEAN_COLOUR, MOST_PIXELS, frame

Framing = Literal["crop to mask", "stretch"]
FRAMINGS: tuple[Framing, ...] = get_args(Framing)
"""crop to mask: a square around the object, with a margin
stretch: the whole picture, its proportions ignored (csyxwei/ELITE, datasets.py, CustomDatasetWithBG)
"""

MARGIN = 0.05
"""Of the object's longer side, at each side of it. The authors cut training pictures 10 to 19 pixels around objects of hundreds (elite.md,
8)."""
LARGEST_MARGIN = 4.0
MASK_SIDE = 128
"""Pixels that masks are sampled at on the way to the grid (csyxwei/ELITE, inference_local.py)."""


class Framed(NamedTuple):
    """picture, thing: size x size, what the global and the local mapper see, thing on black; patches: [grid*grid] of 0 and 1, row by row;
    box: what of the whole picture that is."""

    picture: Image.Image
    thing: Image.Image
    patches: Tensor
    box: Box


def as_elite_masks(masks: Tensor, what: str = "The mask") -> Tensor:
    """Masks of any kind -> [B, H, W] of 0 and 1. As masks.as_masks takes them; besides, pictures [B, H, W, 2 to 4]: those with an alpha
    channel that is not opaque all over are marked by it, others by their brightest channel."""
    if isinstance(masks, Tensor) and masks.ndim == 4 and masks.shape[-1] in (2, 3, 4) and masks.shape[1] != 1:
        colours = masks.shape[-1] // 2 * 2 - 1  # 2: grey and alpha; 3 and 4: three colours
        colour, alpha = masks[..., :colours].amax(dim=-1), masks[..., colours:]
        masks = alpha[..., 0] if alpha.numel() and bool((alpha < 0.5).any()) else colour
    return (as_masks(masks, what) >= 0.5).float()


def frame_object(
    picture: Image.Image,
    mask: Tensor | None,
    size: int,
    grid: int,
    framing: Framing,
    margin: float = MARGIN,
    crop: tuple[int, int, int, int] | None = None,
) -> Framed:
    """picture: RGB; mask: [H, W] of 0 and 1, stretched over the picture, None for all of it. margin: of "crop to mask".

    crop: what is seen, in whole pixels of the picture, in place of what the framing would choose.

    Raises ValueError for a mask that marks nothing, or nothing that the grid can show.
    """
    margin = finite.finite(margin, "margin", 0.0, LARGEST_MARGIN)
    marked = np.ones((picture.height, picture.width), np.uint8)  # [H, W]
    if mask is not None:
        marked = over(picture, mask).numpy().astype(np.uint8)
    if not marked.any():
        raise ValueError(
            "The mask marks nothing; expected some area of 0.5 or more. Paint the object in the mask, or disconnect the mask to take the "
            "whole picture. (Load Image gives an all-zero MASK for a picture without alpha.)"
        )
    box = crop or (0, 0, picture.width, picture.height)
    if crop is not None and not marked[crop[1] : crop[3], crop[0] : crop[2]].any():
        raise ValueError(
            f"The mask marks nothing within the crop {', '.join(map(str, crop))}. Move the frame to the object, or leave crop empty."
        )
    if crop is None and framing == "crop to mask" and mask is not None:
        box = square_around(marked, margin)
    seen, shape = cut(picture, box, MEAN_COLOUR), cut(Image.fromarray(marked), box, 0)
    thing = Image.fromarray(np.asarray(seen) * np.asarray(shape)[..., None])
    patches = on_grid(np.asarray(shape), grid)
    if not bool(patches.any()):
        raise ValueError(
            f"The mask is so thin that none of the {grid} x {grid} places at which it is looked at is marked. Paint it wider, fill it, or "
            'choose the framing "crop to mask".'
        )
    left, top, right, bottom = map(float, box)
    return Framed(frame(seen, size, "stretch"), frame(thing, size, "stretch"), patches, (left, top, right, bottom))


def over(picture: Image.Image, mask: Tensor) -> Tensor:
    """A mask stretched over its picture: [h, w] -> [H, W] of 0 and 1."""
    grey = Image.fromarray(mask.float().cpu().numpy())
    if grey.size != picture.size:
        grey = grey.resize(picture.size, Image.Resampling.BILINEAR)
    return torch.from_numpy((np.asarray(grey) >= 0.5).astype(np.float32))


def square_around(marked: np.ndarray, margin: float) -> tuple[int, int, int, int]:
    """The square around what is marked, moved into the picture as far as it fits there."""
    left, top, right, bottom = bounds(marked.astype(bool))
    height, width = marked.shape
    side = min(max(round(max(bottom - top, right - left) * (1 + 2 * margin)), 1), max(height, width))
    if side * side > MOST_PIXELS:
        raise ValueError(
            f"A square around the object would have {side:,} pixels along a side. Resize or crop the picture ({width:,} x {height:,}), or "
            'choose the framing "stretch".'
        )

    def placed(first: int, stop: int, length: int) -> int:
        start = (first + stop - side) // 2
        return (length - side) // 2 if side > length else min(max(start, 0), length - side)

    x, y = int(placed(left, right, width)), int(placed(top, bottom, height))
    return x, y, x + side, y + side


def cut(picture: Image.Image, box: tuple[int, int, int, int], beyond: int | tuple[int, int, int]) -> Image.Image:
    """A part of a picture, which may reach beyond its edges. beyond: the colour there."""
    left, top, right, bottom = box
    if box == (0, 0, *picture.size):
        return picture
    part = Image.new(picture.mode, (right - left, bottom - top), beyond)
    part.paste(picture, (-left, -top))
    return part


def on_grid(shape: np.ndarray, grid: int) -> Tensor:
    """[H, W] of 0 and 1 -> [grid*grid], sampled at the top left of each cell, by way of MASK_SIDE pixels (elite.md, 5)."""

    def sampled(length: int) -> np.ndarray:
        fine = np.arange(MASK_SIDE) * length // MASK_SIDE
        return fine[np.arange(grid) * MASK_SIDE // grid]

    height, width = shape.shape
    return torch.from_numpy(shape[sampled(height)[:, None], sampled(width)[None]].astype(np.float32)).flatten()
