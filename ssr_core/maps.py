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

GRADIENT = torch.tensor([[0.10, 0.05, 0.45], [0.05, 0.45, 0.85], [0.15, 0.80, 0.55], [0.98, 0.85, 0.15], [0.90, 0.15, 0.10]])
"""Colours of cold to hot, dark blue to red."""


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


def attention_map(looks: ReferenceMap, picture: Tensor | None = None, opacity: float = 0.6) -> tuple[Tensor, Tensor]:
    """Overlay and mask of where a method looks.

    picture: the reference itself, [H, W, 3] in 0..1, or None for the square that the encoder saw.
    Returns the overlay [1, H, W, 3] and the map [1, H, W] in 0..1, which is 0 outside what the encoder saw.
    """
    if picture is None:
        seen = looks.seen.permute(2, 0, 1)[None].float() / 255  # [1, 3, size, size]
        canvas = F.interpolate(seen, size=(PREVIEW_SIDE, PREVIEW_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        picture = canvas[0].permute(1, 2, 0)
        placed = _enlarge(looks.heat, PREVIEW_SIDE, PREVIEW_SIDE)
    else:
        picture = picture[..., :3].float()
        if tuple(picture.shape[:2]) != tuple(looks.source_size):
            height, width = looks.source_size
            raise ValueError(
                f"This picture is {picture.shape[1]} x {picture.shape[0]} pixels; the subject was encoded from one of {width} x "
                f"{height}. Connect the reference that went into Encode Subject, or leave the input empty."
            )
        placed = _place(looks.heat, looks.source_size, looks.box)
    return overlay(picture, placed, opacity)[None], placed[None]


def footprint_map(maps: Tensor, pictures: Tensor, opacity: float = 0.6) -> tuple[Tensor, Tensor]:
    """Overlay and mask of where a subject acted. maps: [B, h, w] in 0..1; pictures: [B, H, W, 3] -> [B, H, W, 3] and [B, H, W]."""
    if maps.shape[0] != pictures.shape[0]:
        raise ValueError(
            f"The recorded sampling made {maps.shape[0]} pictures, this batch holds {pictures.shape[0]}. Connect the decoded pictures "
            "of the sampler that used the recording MODEL."
        )
    grown = torch.stack([_enlarge(heat, *pictures.shape[1:3]) for heat in maps])
    shown = [overlay(picture[..., :3].float(), heat, opacity) for picture, heat in zip(pictures, grown, strict=True)]
    return torch.stack(shown), grown


def selection_mask(patches: Tensor, size: tuple[int, int], box: Box) -> Tensor:
    """Selected patches [P-1] as a mask over the whole picture, [H, W] in 0..1. size: (height, width); box: vision.seen_box."""
    grid = math.isqrt(patches.numel())
    return _place(patches.view(grid, grid), size, box)


def overlay(picture: Tensor, heat: Tensor, opacity: float) -> Tensor:
    """A picture [H, W, 3] under the colours of a map [H, W], both in 0..1; where the map is 0 the picture stays as it is."""
    blend = (opacity * heat)[..., None].to(picture.device)
    return (picture * (1 - blend) + heat_colours(heat).to(picture.device) * blend).clamp(0, 1)


def _place(heat: Tensor, size: tuple[int, int], box: Box) -> Tensor:
    """[grid, grid] -> [H, W] of the whole reference, inside the box that the encoder saw."""
    height, width = size
    left, top, right, bottom = (round(edge) for edge in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)  # a picture one pixel thin still has a box
    grown = _enlarge(heat, bottom - top, right - left)
    canvas = torch.zeros(height, width)
    inside = grown[max(0, -top) : height - top, max(0, -left) : width - left]
    canvas[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside
    return canvas


def _enlarge(heat: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(heat[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0].clamp(0, 1)


def heat_colours(heat: Tensor) -> Tensor:
    """[H, W] in 0..1 -> [H, W, 3]. web/lib/heat.js paints the same."""
    place = heat * (len(GRADIENT) - 1)
    left = place.long().clamp(max=len(GRADIENT) - 2)
    return torch.lerp(GRADIENT[left], GRADIENT[left + 1], (place - left)[..., None])
