"""From a reference picture and a query to subjects: the one recipe both hosts follow.

The host provides a vision model and query embeddings; this file frames pictures, runs the vision model once per new picture,
and keeps what does not change: features of pictures already seen, and the unconditional tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ... import finite, vision
from ...choices import choice
from ...crop import Crop, check_crop, pixels_of
from ...masks import as_masks
from ...points import Point, check_points
from ...select import around, layer_of
from ...shown import shown
from ...vision import FITS, Fit
from ...vision_model import VisionModel, bytes_of, remember
from ...words import Query
from .aligner import Aligned
from .encoder import EncoderConfig
from .subject import MOST_QUERY_LETTERS, Subject, SubjectSet, check_count

NULL_TOKENS_KEPT = 16
LARGEST_MASK_WEIGHT = 100.0
"""Its square is added to the attention's logits: at 5 nothing outside the mask is seen any more."""

Align = Callable[[Tensor, Tensor, Tensor | None, float], Aligned]
"""SSREncoder.forward: (query [B, T, D], features [B, S, P, V], mask [B, P-1] or None, mask weight) -> tokens and map."""


@dataclass(frozen=True)
class Encoder:
    """What encoding needs of an SSR-Encoder: its shapes, its identity and its aligner, ready to run."""

    config: EncoderConfig
    fingerprint: str
    align: Align


@dataclass(frozen=True, eq=False)
class Selection:
    """What is selected in a reference. query, null_query: the words of the conditional and of the unconditional side.

    masks: [1 or pictures, H, W] in 0..1 over the whole picture, or None; several masks of one picture are a subject each. points:
    places in pixels that were pointed at, whose surroundings join every mask (select.select_patches). fit: how a picture that is not
    square is seen. crop: the part of each picture that is seen, in its pixels; None for all of it. Raises ValueError for masks and weights
    that are none (masks.as_masks).
    """

    query: Query
    null_query: Query
    masks: Tensor | None = None
    mask_weight: float = 1.0
    points: Sequence[Point] = ()
    fit: Fit = "center crop"
    crop: Crop | None = None

    def __post_init__(self) -> None:
        for what, query in (("query", self.query), ("null_query", self.null_query)):
            if len(query.text) > MOST_QUERY_LETTERS:
                raise ValueError(
                    f"The {what} has {len(query.text):,} characters; at most {MOST_QUERY_LETTERS:,} are taken. Shorten it."
                )
        choice(self.fit, FITS, "fit")
        object.__setattr__(self, "points", check_points(self.points))
        object.__setattr__(self, "crop", check_crop(self.crop))
        weight = finite.finite(self.mask_weight, "mask_weight", -LARGEST_MASK_WEIGHT, LARGEST_MASK_WEIGHT)
        object.__setattr__(self, "mask_weight", weight)
        if self.masks is not None:
            object.__setattr__(self, "masks", as_masks(self.masks, "The mask"))


def encode_subjects(
    encoder: Encoder,
    vision_model: VisionModel,
    pictures: Sequence[Image.Image],
    selection: Selection,
    strength: float = 1.0,
) -> SubjectSet:
    """One subject per picture, or per mask of a single picture.

    The unconditional tokens come from a picture that is zero after normalisation and from the null query, with the same mask and
    weight (get_image_embeds and get_image_embeds_mask in Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py).
    """
    query, fit, crop = selection.query, selection.fit, selection.crop
    layers = encoder.config.vision_layers
    for picture in pictures:
        vision.check_size(*picture.size, "The reference")
    if len(pictures) == 1 and selection.masks is not None:
        pictures = [*pictures] * len(selection.masks)  # a subject for each mask; the vision model sees equal pictures once
    check_count(len(pictures), "pictures or masks")
    vision.check_vision_model(vision_model.width, vision_model.tokens, encoder.config.vision_width)
    framed = [vision.frame(picture, vision_model.size, fit, crop) for picture in pictures]
    patches = _patch_masks(selection.masks, pictures, vision_model, fit, crop)
    pixels = vision.normalise(framed)  # [B, 3, size, size]
    # The zero picture shares the first pictures' pass; later its features are known.
    features = vision_model.encode(torch.cat([pixels, torch.zeros_like(pixels[:1])]), layers)  # [B+1, S, P, V]
    seen, null_features = features[:-1], features[-1:]
    if selection.points:
        # The scale nearest to the layer that tells things apart best: its features are at hand.
        scale = min(range(len(layers)), key=lambda one: abs(layers[one] - layer_of(vision_model.layers)))
        pointed = [
            around(selection.points, picture, own[scale], vision_model, fit, crop)
            for picture, own in zip(pictures, seen, strict=True)
        ]
        patches = torch.stack(pointed) if patches is None else torch.maximum(patches, torch.stack(pointed))  # [B, P-1]

    subjects = []
    for index, picture in enumerate(pictures):
        mask = None if patches is None else patches[index : index + 1]  # [1, P-1]
        aligned = encoder.align(query.embeds, seen[index : index + 1], mask, selection.mask_weight)
        _check_numbers(query.text, aligned)
        subjects.append(
            Subject(
                tokens=_keep(aligned.tokens[0]),
                null_tokens=_null_tokens(encoder, vision_model, selection, null_features, mask),
                attention=_keep(aligned.attention[0]),
                picture=torch.from_numpy(np.array(framed[index])),
                query=query.text,
                words=query.words,
                encoder=encoder.fingerprint,
                source_size=(picture.height, picture.width),
                fit=fit,
                strength=strength,
                word_embeds=_keep(query.word_embeds),
                marked=None if mask is None else _keep(mask[0]),
                crop=None if crop is None else pixels_of(crop, picture.size),
            )
        )
    return tuple(subjects)


def _check_numbers(query: str, aligned: Aligned) -> None:
    for what, found in (("tokens", finite.fault(aligned.tokens)), ("map", finite.fault(aligned.attention))):
        if found is not None:
            raise ValueError(
                f'Encoding "{shown(query, 60)}" gives {what} with {found}. The CLIP or the encoder is damaged, or overflows in half '
                "precision; load them again, or in full precision."
            )


def _patch_masks(
    masks: Tensor | None, pictures: Sequence[Image.Image], vision_model: VisionModel, fit: Fit, crop: Crop | None
) -> Tensor | None:
    """[1 or pictures, H, W] -> [pictures, P-1]. Every mask is first stretched over its whole picture."""
    if masks is None:
        return None
    if masks.shape[0] not in (1, len(pictures)):
        raise ValueError(
            f"{masks.shape[0]} masks for {len(pictures)} reference pictures; expected one mask for all or one for each."
        )
    grid = round((vision_model.tokens - 1) ** 0.5)
    patches = []
    for index, picture in enumerate(pictures):
        mask = masks[min(index, masks.shape[0] - 1)]
        if tuple(mask.shape) != (picture.height, picture.width) and (fit != "stretch" or crop is not None):
            grey = Image.fromarray(mask.float().cpu().numpy())
            resized = grey.resize(picture.size, Image.Resampling.BILINEAR)
            mask = torch.from_numpy(np.array(resized))
        patches.append(vision.mask_to_patches(mask, grid, vision_model.size, fit, crop))
    return torch.stack(patches)


def _null_tokens(
    encoder: Encoder, vision_model: VisionModel, selection: Selection, features: Tensor, mask: Tensor | None
) -> Tensor:
    """Unconditional tokens [N, D], computed once for each encoder, vision model, null query and mask."""
    embeds, weight = selection.null_query.embeds, selection.mask_weight
    parts = (encoder.fingerprint, tuple(embeds.shape), mask is not None, weight if mask is not None else 0.0)
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
    digest.update(bytes_of(embeds))
    if mask is not None:
        digest.update(bytes_of(mask))
    key = digest.digest()
    if key not in vision_model.derived:
        tokens = encoder.align(embeds, features, mask, weight).tokens[0]
        remember(vision_model.derived, key, _keep(tokens), NULL_TOKENS_KEPT)
    vision_model.derived.move_to_end(key)
    return vision_model.derived[key]


def _keep(tensor: Tensor) -> Tensor:
    return tensor.float().cpu().contiguous()
