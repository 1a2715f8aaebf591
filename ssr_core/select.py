"""Click to select: which patches of a picture belong together with those that were pointed at.

Needs no other model: patches are compared by the vision model's own features. A patch is selected if its mean similarity to the marked
patches exceeds Otsu's threshold and it is connected to them. This repeats among the selected patches as long as they clearly form two
groups. Finally every patch goes to the group with the nearest mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .crop import Crop
from .maps import selection_mask
from .points import Point, points_to_patches
from .vision import Fit, frame, normalise, seen_box
from .vision_model import VisionModel

DEPTH = 5 / 6
"""Which layer of the vision model is used, as a share of all: deep enough to know things, shallow enough to know where they are."""

HEAP = 2 / math.pi
"""Share of the variance that lies between the halves of normally distributed numbers: numbers with no more are one group."""
STILL_APART = 0.2
"""A thing is separated from others only if their distance is at least this share of the distance of all of them from the ground."""


def layer_of(layers: int) -> int:
    """Which of a vision model's layers is used, counted from 1: 20 of ViT-L/14's 24."""
    return round(DEPTH * layers)


def select_patches(features: Tensor, marked: Tensor) -> Tensor:
    """features: [P-1, C] of one scale without CLS; marked: [P-1] bool, patches pointed at -> [P-1] bool."""
    patches = F.normalize(features.float() - features.float().mean(dim=0), dim=-1)
    likeness = (patches @ patches[marked].T).mean(dim=-1)  # [P-1]
    first = split = otsu(likeness)
    selected = _connected(likeness >= split.threshold, marked)
    others = [~selected]
    # The first threshold often separates things from ground; the next separates this thing from others that touch it. Marked patches
    # are left out: their similarity to themselves says nothing.
    while (split := otsu(likeness[selected & ~marked])).share > HEAP and split.gap > STILL_APART * first.gap:
        narrower = _connected(selected & (likeness >= split.threshold), marked)
        if torch.equal(narrower, selected):
            break
        others.append(selected & ~narrower)
        selected = narrower
    means = [patches[group].mean(dim=0) for group in (selected, *others) if bool(group.any())]
    nearest = torch.cdist(patches, torch.stack(means)).argmin(dim=-1)  # [P-1]
    return _connected(nearest == 0, marked)


class Split(NamedTuple):
    """threshold between two groups of numbers; gap: how far apart their means are; share of the variance that lies between them."""

    threshold: float
    gap: float
    share: float


def otsu(values: Tensor) -> Split:
    """The threshold that splits numbers into two groups of the largest variance between them (Otsu 1979). values: [N]"""
    ordered, count = values.double().sort().values, len(values)
    if count < 2:
        return Split(-math.inf, 0.0, 0.0)
    below = torch.arange(1, count, device=values.device)
    sums = ordered.cumsum(0)
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) * (high - low) ** 2 / count**2
    cut = int(between.argmax())
    variance = ordered.var(correction=0).clamp(min=torch.finfo(ordered.dtype).tiny)
    return Split(float(ordered[cut] + ordered[cut + 1]) / 2, float(high[cut] - low[cut]), float(between[cut] / variance))


def _connected(candidates: Tensor, seeds: Tensor) -> Tensor:
    """The seeds, and the candidates that are connected to them over the sides of patches. [P-1] bool each."""
    grid = math.isqrt(seeds.numel())
    allowed = (candidates | seeds).float().view(1, 1, grid, grid)
    reached = seeds.float().view(1, 1, grid, grid)
    while True:
        beside = torch.maximum(
            F.max_pool2d(reached, (1, 3), stride=1, padding=(0, 1)), F.max_pool2d(reached, (3, 1), stride=1, padding=(1, 0))
        )
        grown = beside * allowed
        if torch.equal(grown, reached):
            return reached.flatten().bool()
        reached = grown


def masks_around(
    vision_model: VisionModel, pictures: Sequence[Image.Image], points: Sequence[Point], fit: Fit, crop: Crop | None = None
) -> Tensor:
    """What belongs to what is under the points, as masks of pictures of one size: [B, H, W] in 0..1.

    fit, crop: as vision.frame takes them.
    """
    masks = []
    for picture in pictures:
        box = seen_box(*picture.size, vision_model.size, fit, crop)
        patches = select_around(vision_model, picture, points, fit, crop)
        masks.append(selection_mask(patches, (picture.height, picture.width), box))
    return torch.stack(masks)


def select_around(
    vision_model: VisionModel, picture: Image.Image, points: Sequence[Point], fit: Fit, crop: Crop | None = None
) -> Tensor:
    """The patches that belong together with those under the points, as a mask: [P-1] of 0 and 1."""
    pixels = normalise([frame(picture, vision_model.size, fit, crop)])
    features = vision_model.encode(pixels, (layer_of(vision_model.layers),))  # [1, 1, P, V]
    return around(points, picture, features[0, 0], vision_model, fit, crop)


def around(
    points: Sequence[Point],
    picture: Image.Image,
    features: Tensor,
    vision_model: VisionModel,
    fit: Fit,
    crop: Crop | None = None,
) -> Tensor:
    """select_around with features at hand: [P, V] of one layer -> [P-1]."""
    box = seen_box(*picture.size, vision_model.size, fit, crop)
    marked = points_to_patches(points, box, round((vision_model.tokens - 1) ** 0.5))
    return select_patches(features[1:], marked).float()
