"""How a training picture is shown: to the vision model turned, blurred and moved, to the UNet small, whole or in part.

All random choices follow from the sample's seed. The transforms are torchvision's; what differs from csyxwei/ELITE, datasets.py, is told
beside each.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from .elite_captions import FAR, NEAR

CELL = 8
"""Pixels of a target for one place of its latents."""


class Target(NamedTuple):
    """pixels: [3, size, size] in -1..1; counts: [1, size/8, size/8] of 0 and 1, where the loss counts; view: what the prompt says of it."""

    pixels: Tensor
    counts: Tensor
    view: str = ""


def turned(picture: Image.Image, seed: int) -> Image.Image:
    """A square picture for the global mapper: mirrored, turned up to 20 degrees, blurred, bent.

    As in the first stage, but for albumentations' shape of blur and bend, which are torchvision's here.
    """
    shown = _seeded(_of_words(picture.width), seed, v2.functional.to_image(picture))
    return v2.functional.to_pil_image(shown)


def moved(thing: Image.Image, mask: Image.Image, seed: int) -> tuple[Image.Image, Image.Image]:
    """An object on black and its mask for the local mapper, both scaled, turned up to 30 degrees and shifted by the same numbers.

    As in the second stage, but turned and shifted by bilinear sampling, which torchvision has, in the place of cubic.
    """
    shown, shape = _seeded(
        _of_tokens(thing.width), seed, v2.functional.to_image(thing), tv_tensors.Mask(v2.functional.to_image(mask))
    )
    return v2.functional.to_pil_image(shown), v2.functional.to_pil_image(shape.as_subclass(Tensor))


def whole(picture: Image.Image, size: int) -> Target:
    """All of a picture, stretched."""
    return Target(_pixels(picture.resize((size, size), Image.Resampling.BICUBIC)), _everywhere(size))


def scaled(picture: Image.Image, size: int, rng: random.Random) -> Target:
    """The picture small on grey, whole, or a part of it enlarged (csyxwei/ELITE, datasets.py, after Custom Diffusion; elite.md, 8)."""
    side = rng.randint(size // 3, size) if rng.random() < 2 / 3 else rng.randrange(int(1.2 * size), int(1.4 * size))
    side += side % 2
    if 0.6 * size <= side <= size:
        return whole(picture, size)
    resized = _pixels(picture.resize((side, side), Image.Resampling.BICUBIC))  # [3, side, side]
    left, top = (rng.randint(0, abs(size - side)) for _ in range(2))
    if side > size:
        return Target(resized[:, top : top + size, left : left + size], _everywhere(size), rng.choice(NEAR))
    pixels, counts = torch.zeros(3, size, size), torch.zeros(1, size // CELL, size // CELL)
    pixels[:, top : top + side, left : left + side] = resized
    rows, columns = (slice(start // CELL + 1, (start + side) // CELL - 1) for start in (top, left))
    counts[:, rows, columns] = 1.0
    return Target(pixels, counts, rng.choice(FAR))


@cache
def _of_words(side: int) -> v2.Transform:
    turn = [
        v2.Pad(side // 4, padding_mode="reflect"),
        v2.RandomRotation(20, InterpolationMode.BILINEAR),
        v2.CenterCrop(side),
    ]
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply(turn, 0.5),
            v2.RandomApply([v2.GaussianBlur(7, (0.5, 2.0))], 0.3),
            v2.RandomApply([v2.ElasticTransform()], 0.3),
        ]
    )


@cache
def _of_tokens(side: int) -> v2.Transform:
    shift = 60 / 224
    larger = [v2.RandomResize(side, side * 256 // 224 + 1, InterpolationMode.BICUBIC), v2.RandomCrop(side)]
    return v2.Compose(
        [
            v2.RandomApply(larger, 0.5),
            v2.RandomApply([v2.RandomRotation(30, InterpolationMode.BILINEAR)], 0.5),
            v2.RandomApply([v2.RandomAffine(0, (shift, shift), interpolation=InterpolationMode.BILINEAR)], 0.5),
        ]
    )


def _seeded(transform: Callable[..., Any], seed: int, *given: Tensor) -> Any:
    """Of torch's generator on the CPU, which the transforms draw from, nothing else is left changed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(*given)


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def _everywhere(size: int) -> Tensor:
    return torch.ones(1, size // CELL, size // CELL)
