"""From a reference picture and a query to subjects: the one recipe both hosts follow.

The host brings a vision model and query embeddings; this file frames pictures, runs the vision model once per new picture,
and keeps what does not change: features of pictures already seen, and the unconditional tokens.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import select, vision
from .aligner import Aligned
from .encoder import EncoderConfig
from .maps import selection_mask
from .points import Point, points_to_patches
from .subject import Subject, SubjectSet
from .vision import Fit, HiddenStates
from .words import Word

PICTURES_KEPT = 8
"""Features kept per vision model: 6 MB each for ViT-L/14 at six scales."""
NULL_TOKENS_KEPT = 16

Align = Callable[[Tensor, Tensor, Tensor | None, float], Aligned]
"""SSREncoder.forward: (query [B, T, D], features [B, S, P, V], mask [B, P-1] or None, mask weight) -> tokens and map."""


@dataclass(frozen=True)
class Query:
    """Encoded words. embeds: [1, T, D], the text encoder's last hidden state after its final LayerNorm."""

    text: str
    embeds: Tensor
    words: tuple[Word, ...] = ()

    @property
    def word_embeds(self) -> Tensor:
        """[W, D], the rows of embeds that belong to words."""
        return self.embeds[0, [row for word in self.words for row in range(word.first, word.stop)]]


@dataclass(frozen=True)
class Encoder:
    """What encoding needs of an SSR-Encoder: its shapes, its identity and its aligner, ready to run."""

    config: EncoderConfig
    fingerprint: str
    align: Align


@dataclass
class VisionModel:
    """A vision model and what it has already seen. size: input side in pixels; width and tokens: of its features; layers: how many."""

    hidden_states: HiddenStates
    size: int
    width: int
    tokens: int
    layers: int
    features: OrderedDict[bytes, Tensor] = field(default_factory=OrderedDict)
    null_tokens: OrderedDict[bytes, Tensor] = field(default_factory=OrderedDict)

    def encode(self, pixels: Tensor, layers: tuple[int, ...]) -> Tensor:
        """Features of normalised pixels [B, 3, size, size] -> [B, S, P, C] float32 on the CPU. Unseen ones run as one batch."""
        keys = [_key(picture, layers) for picture in pixels]
        unseen = {key: picture for key, picture in zip(keys, pixels, strict=True) if key not in self.features}
        found = {key: self.features[key] for key in keys if key in self.features}
        if unseen:
            fresh = vision.patch_features(self.hidden_states, torch.stack(list(unseen.values())), layers)
            found.update(zip(unseen, fresh.float().cpu(), strict=True))
        for key in keys:
            _remember(self.features, key, found[key], PICTURES_KEPT)
        return torch.stack([found[key] for key in keys])


class VisionModels:
    """The host's vision models with their memories, each of which lives exactly as long as the host's object.

    describe: the VisionModel of a host's object, given it and a function that returns it. The function is what the VisionModel may
    keep: it holds the object weakly.
    """

    def __init__(self, describe: Callable[[Any, Callable[[], Any]], VisionModel]) -> None:
        self._describe = describe
        self._known: weakref.WeakKeyDictionary[Any, VisionModel] = weakref.WeakKeyDictionary()

    def __call__(self, model: Any) -> VisionModel:
        if model not in self._known:
            reference = weakref.ref(model)

            def held() -> Any:
                found = reference()
                assert found is not None  # its features are asked for through it
                return found

            self._known[model] = self._describe(model, held)
        return self._known[model]


def encode_subjects(
    encoder: Encoder,
    vision_model: VisionModel,
    pictures: Sequence[Image.Image],
    query: Query,
    null_query: Query,
    masks: Tensor | None = None,
    mask_weight: float = 1.0,
    fit: Fit = "center crop",
    strength: float = 1.0,
    points: Sequence[Point] = (),
) -> SubjectSet:
    """One subject per picture.

    masks: [1 or pictures, H, W] in 0..1 over the whole picture, or None; points: places in pixels that were pointed at, whose
    surroundings join the mask (select.select_patches). The unconditional tokens come from a picture that is
    zero after normalisation and from the null query, with the same mask and weight, as the official code does.
    """
    layers = encoder.config.vision_layers
    vision.check_vision_model(vision_model.width, vision_model.tokens, encoder.config.vision_width)
    framed = [vision.frame(picture, vision_model.size, fit) for picture in pictures]
    patches = _patch_masks(masks, pictures, vision_model, fit)
    pixels = vision.normalise(framed)  # [B, 3, size, size]
    # The zero picture rides along: on a first encode it shares the picture's pass, later it is already known.
    features = vision_model.encode(torch.cat([pixels, torch.zeros_like(pixels[:1])]), layers)  # [B+1, S, P, V]
    seen, null_features = features[:-1], features[-1:]
    if points:
        # The scale next to the layer that tells things apart best; the pass for it has been made already.
        scale = min(range(len(layers)), key=lambda one: abs(layers[one] - select.layer_of(vision_model.layers)))
        pointed = [_around(points, picture, own[scale], vision_model, fit) for picture, own in zip(pictures, seen, strict=True)]
        patches = torch.stack(pointed) if patches is None else torch.maximum(patches, torch.stack(pointed))  # [B, P-1]

    subjects = []
    for index, picture in enumerate(pictures):
        mask = None if patches is None else patches[index : index + 1]  # [1, P-1]
        aligned = encoder.align(query.embeds, seen[index : index + 1], mask, mask_weight)
        subjects.append(
            Subject(
                tokens=_keep(aligned.tokens[0]),
                null_tokens=_null_tokens(encoder, vision_model, null_query, null_features, mask, mask_weight),
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
            )
        )
    return tuple(subjects)


def masks_around(vision_model: VisionModel, pictures: Sequence[Image.Image], points: Sequence[Point], fit: Fit) -> Tensor:
    """What belongs together with what is under the points, as masks of pictures of one size: [B, H, W] in 0..1."""
    masks = []
    for picture in pictures:
        box = vision.seen_box(*picture.size, vision_model.size, fit)
        patches = select_around(vision_model, picture, points, fit)
        masks.append(selection_mask(patches, (picture.height, picture.width), box))
    return torch.stack(masks)


def select_around(vision_model: VisionModel, picture: Image.Image, points: Sequence[Point], fit: Fit) -> Tensor:
    """The patches that belong together with those under the points, as a mask: [P-1] of 0 and 1."""
    pixels = vision.normalise([vision.frame(picture, vision_model.size, fit)])
    features = vision_model.encode(pixels, (select.layer_of(vision_model.layers),))  # [1, 1, P, V]
    return _around(points, picture, features[0, 0], vision_model, fit)


def _around(points: Sequence[Point], picture: Image.Image, features: Tensor, vision_model: VisionModel, fit: Fit) -> Tensor:
    """features: [P, V] of one layer -> [P-1]."""
    box = vision.seen_box(*picture.size, vision_model.size, fit)
    marked = points_to_patches(points, box, round((vision_model.tokens - 1) ** 0.5))
    return select.select_patches(features[1:], marked).float()


def _patch_masks(masks: Tensor | None, pictures: Sequence[Image.Image], vision_model: VisionModel, fit: Fit) -> Tensor | None:
    """[1 or pictures, H, W] -> [pictures, P-1], every mask stretched over its whole picture first."""
    if masks is None:
        return None
    if masks.shape[0] not in (1, len(pictures)):
        raise ValueError(
            f"{masks.shape[0]} masks for {len(pictures)} reference pictures; expected one mask for all or one for each."
        )
    grid = round((vision_model.tokens - 1) ** 0.5)
    rows = []
    for index, picture in enumerate(pictures):
        mask = masks[min(index, masks.shape[0] - 1)]
        if tuple(mask.shape) != (picture.height, picture.width) and fit != "stretch":
            grey = Image.fromarray(mask.float().cpu().numpy())
            resized = grey.resize(picture.size, Image.Resampling.BILINEAR)
            mask = torch.from_numpy(np.array(resized))
        rows.append(vision.mask_to_patches(mask, grid, vision_model.size, fit))
    return torch.stack(rows)


def _null_tokens(
    encoder: Encoder, vision_model: VisionModel, null_query: Query, features: Tensor, mask: Tensor | None, weight: float
) -> Tensor:
    """Unconditional tokens [N, D], one computation per encoder, vision model, null query and mask."""
    parts = (encoder.fingerprint, tuple(null_query.embeds.shape), mask is not None, weight if mask is not None else 0.0)
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
    digest.update(_bytes(null_query.embeds))
    if mask is not None:
        digest.update(_bytes(mask))
    key = digest.digest()
    if key not in vision_model.null_tokens:
        tokens = encoder.align(null_query.embeds, features, mask, weight).tokens[0]
        _remember(vision_model.null_tokens, key, _keep(tokens), NULL_TOKENS_KEPT)
    vision_model.null_tokens.move_to_end(key)
    return vision_model.null_tokens[key]


def _keep(tensor: Tensor) -> Tensor:
    return tensor.float().cpu().contiguous()


def _key(picture: Tensor, layers: tuple[int, ...]) -> bytes:
    return hashlib.blake2b(repr(layers).encode() + _bytes(picture), digest_size=16).digest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()


def _remember(kept: OrderedDict[bytes, Tensor], key: bytes, value: Tensor, limit: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > limit:
        kept.popitem(last=False)
