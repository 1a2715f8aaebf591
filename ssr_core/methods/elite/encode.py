"""From a picture and its mask to a subject: the one recipe both hosts follow.

The host provides a vision model; this file frames pictures (framing.py), runs the vision model once per new picture, and asks the mappers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ... import finite, vision
from ...crop import Crop, check_crop, pixels_of
from ...points import Point
from ...select import masks_around
from ...vision_model import VisionModel
from .framing import FRAMINGS, MARGIN, Framed, Framing, as_elite_masks, frame_object, over
from .mapper import EliteConfig
from .subject import EliteSubject, EliteSubjects, check_count

log = logging.getLogger("ssr_encoder")


@dataclass(frozen=True)
class Encoder:
    """What encoding needs of ELITE: its shapes, its identity and its mappers, ready to run.

    words: features [B, S, 1+P, V] -> [B, S, D]; tokens: features of the object and mask [B, P] -> [B, P, D], None for words alone.
    """

    config: EliteConfig
    fingerprint: str
    words: Callable[[Tensor], Tensor]
    tokens: Callable[[Tensor, Tensor], Tensor] | None


@dataclass(frozen=True, eq=False)
class Selection:
    """What of the pictures is the object. masks: [1 or pictures, H, W] in any form that as_elite_masks takes, or None for all of them;
    several masks of one picture are a subject each. points: places in pixels that were pointed at; what belongs there joins every mask
    (select.masks_around). framing, margin: as frame_object takes them. crop: the part of each picture that is seen, in its pixels, whatever
    the framing; None leaves that to the framing."""

    masks: Tensor | None = None
    framing: Framing = "crop to mask"
    margin: float = MARGIN
    points: Sequence[Point] = ()
    crop: Crop | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "crop", check_crop(self.crop))
        if self.framing not in FRAMINGS:
            raise ValueError(f'framing is "{self.framing}"; expected one of {", ".join(FRAMINGS)}.')
        if self.masks is not None:
            object.__setattr__(self, "masks", as_elite_masks(self.masks))


def encode_subjects(
    encoder: Encoder,
    vision_model: VisionModel,
    pictures: Sequence[Image.Image],
    selection: Selection,
    strength: float = 1.0,
) -> EliteSubjects:
    """One subject per picture, or per mask of a single picture (elite.md, 3 to 5)."""
    for picture in pictures:
        vision.check_size(*picture.size, "The reference")
    check_vision_model(vision_model, encoder.config)
    pictures, masks = _paired(pictures, selection.masks)
    if selection.points:
        masks = [_with_points(mask, picture, selection, vision_model) for mask, picture in zip(masks, pictures, strict=True)]
    elif selection.masks is None:
        log.warning("SSR-Encoder: no mask is given, so the whole picture counts as the object, its background too.")
    size, grid = vision_model.size, encoder.config.grid
    framed = [
        frame_object(picture, mask, size, grid, selection.framing, selection.margin, _crop_of(selection, picture))
        for picture, mask in zip(pictures, masks, strict=True)
    ]
    patches = torch.stack([one.patches for one in framed])  # [B, P]
    words = encoder.words(_features(vision_model, [one.picture for one in framed], encoder.config))  # [B, S, D]
    tokens = None
    if encoder.tokens is not None:
        tokens = encoder.tokens(_features(vision_model, [one.thing for one in framed], encoder.config), patches)  # [B, P, D]
    _check_numbers(words, tokens)
    return tuple(
        _subject(encoder, one, words[index], None if tokens is None else tokens[index], picture, selection.framing, strength)
        for index, (one, picture) in enumerate(zip(framed, pictures, strict=True))
    )


def _subject(
    encoder: Encoder,
    framed: Framed,
    words: Tensor,
    tokens: Tensor | None,
    picture: Image.Image,
    framing: Framing,
    strength: float,
) -> EliteSubject:
    return EliteSubject(
        words=_keep(words),
        tokens=None if tokens is None else _keep(tokens),
        patches=framed.patches,
        picture=torch.from_numpy(np.array(framed.picture)),
        source_size=(picture.height, picture.width),
        box=framed.box,
        framing=framing,
        encoder=encoder.fingerprint,
        strength=strength,
    )


def _paired(pictures: Sequence[Image.Image], masks: Tensor | None) -> tuple[Sequence[Image.Image], Sequence[Tensor | None]]:
    """As many pictures as masks."""
    if masks is None:
        check_count(len(pictures), "pictures")
        return pictures, [None] * len(pictures)
    if len(pictures) == 1:
        pictures = [*pictures] * len(masks)  # a subject for each mask
    if len(masks) not in (1, len(pictures)):
        raise ValueError(
            f"{len(masks)} masks for {len(pictures)} reference pictures; expected one mask for all or one for each."
        )
    check_count(len(pictures), "pictures or masks")
    return pictures, list(masks.expand(len(pictures), -1, -1))


def _with_points(mask: Tensor | None, picture: Image.Image, selection: Selection, vision_model: VisionModel) -> Tensor:
    """A mask [h, w] joined with what is under the points: [H, W] of 0 and 1."""
    (around,) = masks_around(
        vision_model, [picture], selection.points, "pad", selection.crop
    )  # the fit that leaves nothing out
    selected = (around >= 0.5).float()
    return selected if mask is None else torch.maximum(selected, over(picture, mask))


def _crop_of(selection: Selection, picture: Image.Image) -> tuple[int, int, int, int] | None:
    return None if selection.crop is None else pixels_of(selection.crop, picture.size)


def _features(vision_model: VisionModel, pictures: Sequence[Image.Image], config: EliteConfig) -> Tensor:
    """[B, S, 1+P, V]; the last layer's before the vision model's final norm (elite.md, 3)."""
    return vision_model.encode(vision.normalise(pictures), config.vision_layers)


def check_vision_model(vision_model: VisionModel, config: EliteConfig) -> None:
    """Refuse a vision model of other shapes before it runs."""
    wanted = (config.vision_width, max(config.vision_layers), config.grid**2)
    found = (vision_model.width, vision_model.layers, vision_model.tokens - 1)
    if found[0] != wanted[0] or found[1] < wanted[1] or found[2] != wanted[2]:
        raise ValueError(
            f"This CLIP Vision model has width {found[0]}, {found[1]} layers and {found[2]} patches; this ELITE needs width {wanted[0]}, "
            f"at least {wanted[1]} layers and {wanted[2]} patches. For the released weights load openai/clip-vit-large-patch14 in "
            '"Load CLIP Vision".'
        )


def _check_numbers(words: Tensor, tokens: Tensor | None) -> None:
    for what, made in (("words", words), ("local tokens", tokens)):
        if made is not None and (found := finite.fault(made)) is not None:
            raise ValueError(
                f"Encoding gives {what} with {found}. The CLIP Vision model or ELITE is damaged, or overflows in half precision; load them "
                "again, or in full precision."
            )


def _keep(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().contiguous()
