"""Maps as pictures, for people to look at and for masks: where a query looks in the reference, where a subject acted in the new
picture."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PREVIEW_SIDE = 512
"""Side in pixels of an overlay over the square that the encoder saw."""

OPACITY = 0.6
"""Of the dark over a picture, where nobody asks for another."""

FULL, DARK = 0.91, 0.5
"""Percentiles of a map's patches: from the first on they stand in full light, up to the second in the dark. An attention's peak is
far above what the rest of the same object gets, so a share of the peak would show little but the peak."""
FLOOR = 0.005
"""Of the peak: what stands in full light is at least as hot, where a map is 0 nearly everywhere."""
EVEN = 0.85
"""Of the heat that stands in full light: what is as hot is not in the dark, where a map is nearly the same everywhere."""
LINE = (1.0, 0.86, 0.2)
"""Colour of the line around what is lit."""
LINE_SHARE = 1 / 96
"""Width of that line, of the shorter side of what the map covers; never under two pixels."""
FLAT = 1e-5
"""Rise of the light from pixel to pixel below which no line goes through."""

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in a picture's pixels."""


class ReferenceMap(NamedTuple):
    """Where a method looks in a reference.

    heat: [grid, grid] in 0..1 over the square that the encoder saw; seen: that square, uint8 [size, size, 3]
    source_size: (height, width) of the whole reference; box: what of it the square shows
    """

    heat: Tensor
    seen: Tensor
    source_size: tuple[int, int]
    box: Box


def attention_map(looks: ReferenceMap, picture: Tensor | None = None, opacity: float = OPACITY) -> tuple[Tensor, Tensor]:
    """Overlay and mask of where a method looks.

    picture: the reference itself, [H, W, 3] in 0..1, or None for the square that the encoder saw.
    Returns the overlay [1, H, W, 3], dark where it does not look, and the map [1, H, W] in 0..1, which is 0 outside what the encoder saw.
    """
    if picture is None:
        seen = looks.seen.permute(2, 0, 1)[None].float() / 255  # [1, 3, size, size]
        canvas = F.interpolate(seen, size=(PREVIEW_SIDE, PREVIEW_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        picture = canvas[0].permute(1, 2, 0)
        size, box = (PREVIEW_SIDE, PREVIEW_SIDE), (0.0, 0.0, float(PREVIEW_SIDE), float(PREVIEW_SIDE))
    else:
        picture, size, box = picture[..., :3].float(), looks.source_size, looks.box
        if tuple(picture.shape[:2]) != tuple(size):
            height, width = size
            raise ValueError(
                f"This picture is {picture.shape[1]} x {picture.shape[0]} pixels; the subject was encoded from one of {width} x "
                f"{height}. Connect the reference that went into Encode Subject, or leave the input empty."
            )
    return overlay(picture, looks.heat, opacity, box)[None], _place(looks.heat, size, box)[None]


def footprint_map(maps: Tensor, pictures: Tensor, opacity: float = OPACITY) -> tuple[Tensor, Tensor]:
    """Overlay and mask of where a subject acted. maps: [B, h, w] in 0..1; pictures: [B, H, W, 3] -> [B, H, W, 3] and [B, H, W]."""
    if maps.shape[0] != pictures.shape[0]:
        raise ValueError(
            f"The recorded sampling made {maps.shape[0]} pictures, this batch holds {pictures.shape[0]}. Connect the decoded pictures "
            "of the sampler that used the recording MODEL."
        )
    grown = torch.stack([_enlarge(heat, *pictures.shape[1:3]) for heat in maps])
    shown = [overlay(picture[..., :3].float(), heat, opacity) for picture, heat in zip(pictures, maps, strict=True)]
    return torch.stack(shown), grown


def selection_mask(patches: Tensor, size: tuple[int, int], box: Box) -> Tensor:
    """Selected patches [P-1] as a mask over the whole picture, [H, W] in 0..1. size: (height, width); box: vision.seen_box."""
    grid = math.isqrt(patches.numel())
    return _place(patches.view(grid, grid), size, box)


def light(heat: Tensor) -> Tensor:
    """How brightly a map's patches are shown, 0 to 1 by percentiles of the map. [h, w], 0 or more -> [h, w]; a map of zeros stays dark."""
    patches = heat.flatten().float()
    full = torch.maximum(patches.quantile(FULL), FLOOR * patches.max())
    dark = torch.minimum(patches.quantile(DARK), EVEN * full)
    return ((heat - dark) / (full - dark).clamp_min(1e-12)).clamp(0, 1)


def overlay(picture: Tensor, heat: Tensor, opacity: float, box: Box | None = None) -> Tensor:
    """A picture [H, W, 3] in 0..1, dark where a map [h, w] is cold, with a line around what is lit; opacity 0 leaves it as it is.

    box: what of the picture the map covers, (left, top, right, bottom) in pixels; None for all of it. web/lib/heat.js paints the same.
    """
    size = (picture.shape[0], picture.shape[1])
    lit, line = (layer.to(picture.device) for layer in _light_and_line(light(heat), size, box))
    shown = picture * (1 - opacity * (1 - lit)[..., None]) ** 2  # the eye sees a square as even steps
    ink = min(1.0, 2 * opacity) * line[..., None]
    return (shown + (torch.tensor(LINE, device=picture.device) - shown) * ink).clamp(0, 1)  # [H, W, 3], of a grey picture too


def _light_and_line(lit: Tensor, size: tuple[int, int], box: Box | None) -> tuple[Tensor, Tensor]:
    """[h, w] -> the light and the line around it, [H, W] each in 0..1; both are 0 outside the box."""
    top, left, height, width = (0, 0, *size) if box is None else _inside(box)
    grown = _enlarge(lit, height, width)
    return _put(grown, size, top, left), _put(_line(grown), size, top, left)


def _line(lit: Tensor) -> Tensor:
    """Where the light passes one half: [H, W] -> [H, W] in 0..1, with smooth edges. The distance to it is height by slope."""
    framed = F.pad(lit[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]  # [H+2, W+2]
    across, down = (framed[1:-1, 2:] - framed[1:-1, :-2]) / 2, (framed[2:, 1:-1] - framed[:-2, 1:-1]) / 2
    slope = (across**2 + down**2).sqrt()
    reach = max(2.0, LINE_SHARE * min(lit.shape)) / 2 + 0.5
    return (reach - (lit - 0.5).abs() / slope.clamp_min(FLAT)).clamp(0, 1) * (slope > FLAT)


def _place(heat: Tensor, size: tuple[int, int], box: Box) -> Tensor:
    """[grid, grid] -> [H, W] of the whole reference, inside the box that the encoder saw."""
    top, left, height, width = _inside(box)
    return _put(_enlarge(heat, height, width), size, top, left)


def _inside(box: Box) -> tuple[int, int, int, int]:
    """(top, left, height, width) in whole pixels; a picture one pixel thin still has a box."""
    left, top, right, bottom = (round(edge) for edge in box)
    return top, left, max(bottom - top, 1), max(right - left, 1)


def _put(grown: Tensor, size: tuple[int, int], top: int, left: int) -> Tensor:
    """[h, w] -> [H, W] with its corner at (top, left), which may lie outside, and 0 around it."""
    height, width = size
    canvas = torch.zeros(height, width)
    inside = grown[max(0, -top) : height - top, max(0, -left) : width - left]
    canvas[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside
    return canvas


def _enlarge(heat: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(heat[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0].clamp(0, 1)
