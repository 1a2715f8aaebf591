"""The MIP-Adapter in diffusers: objects out of pictures, and pictures with objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from ...merge import Combine
from ...methods.mip.adapter import MIPAdapter
from ...methods.mip.encode import Adapter, References, encode_object
from ...methods.mip.objects import (
    MERGES,
    MIPObject,
    Name,
    ObjectSet,
    active,
    branch_inputs,
    check_adapter,
    check_name,
    regions_of,
)
from ...schedule import Manner
from ...shown import shown
from . import generate
from .base import Base
from .encoders import embed_texts, pieces_of, vision_model
from .sets import sets_attached

SCALE = 0.75
"""Strength of the authors' demo for the pooled variant (hqhQAQ/MIP-Adapter, inference.py)."""


def for_encoding(adapter: MIPAdapter) -> Adapter:
    """A MIPAdapter as encode.encode_object takes it."""

    @torch.no_grad()
    def to_tokens(features: Tensor) -> Tensor:
        home = next(adapter.parameters())
        return adapter(features.to(home.device, home.dtype))

    return Adapter(adapter.config, adapter.fingerprint, to_tokens)


def encode_name(base: Base, text: str) -> Name:
    """An object's name by the base's text encoders, and the same rows of the encoding of nothing (mip.md, section 4)."""
    check_name(text)
    ids = embed_texts(base.tokenizer, base.text_encoder, [text]).ids[0]
    pieces = pieces_of(base.tokenizer, ids)
    if len(pieces) >= len(ids) - 1:
        raise ValueError(
            f'The name "{shown(text, 60)}" is longer than {len(ids) - 2} tokens. Say what the object is in a word or two.'
        )
    named, nothing = base.embed([text, ""]).float().cpu()[:, 1 : len(pieces)]  # [W, D] each
    return Name(text, named, nothing)


def encode(
    base: Base,
    adapter: MIPAdapter,
    references: References,
    name: str,
    strength: float = 1.0,
    region: Tensor | None = None,
) -> MIPObject:
    """One object out of its pictures, called `name`. region: [H, W] in 0..1, where in the new picture it may act; None for everywhere."""
    tower = vision_model(base.vision_encoder)
    return encode_object(for_encoding(adapter), tower, references, encode_name(base, name), strength, region)


@contextmanager
def objects_attached(
    unet: Any,
    adapter: MIPAdapter,
    objects: ObjectSet | Sequence[ObjectSet],
    manner: Manner | float = SCALE,
    combine: Combine = MERGES[0],
    guidance: bool | None = None,
) -> Iterator[None]:
    """Attach objects to a UNet for the length of a with-block.

    objects: one set that all pictures share, or a list with one set per picture, all of the same size. manner: how they act, or their
    strength alone. guidance: whether pipelines draw with classifier-free guidance; None finds it out from what they hand to the UNet
    (sets.sides_of). Raises ValueError where a batch is not arranged as `guidance` says.
    """
    shared = all(isinstance(one, MIPObject) for one in objects)
    sets: list[ObjectSet] = [cast(ObjectSet, tuple(objects))] if shared else list(cast(Sequence[ObjectSet], objects))
    for one in sets:
        check_adapter(one, adapter.fingerprint)
    regions = [regions_of(one, combine) for one in sets]
    regional = any(region is not None for of_set in regions for region in of_set)
    if regional and len(sets) > 1:
        raise ValueError(
            "Objects with regions of their own work with one set for all pictures; draw the pictures one after the other."
        )
    how = manner if isinstance(manner, Manner) else Manner(manner)
    places = [how.within(region) for region in regions[0]] if regional else ()
    gated = combine == "by word, gated" and any(active(one) for one in sets)
    inputs = [branch_inputs(one, combine) for one in sets]
    with sets_attached(unet, adapter.config.layout, adapter, inputs, how, guidance, places, adapter.gates if gated else ()):
        yield


def sample(
    pipe: Any,
    adapter: MIPAdapter,
    objects: ObjectSet | Sequence[ObjectSet],
    prompts: Sequence[str],
    latents: Tensor,
    manner: Manner | float = SCALE,
    combine: Combine = MERGES[0],
    **sampling: Any,
) -> Tensor:
    """Latents of one picture per prompt. objects and manner: as objects_attached takes them; sampling: as generate.sample does."""
    if not objects:
        return generate.sample(pipe, prompts, latents, **sampling)
    guided = sampling.get("guidance", generate.GUIDANCE) > 1
    with objects_attached(pipe.unet, adapter, objects, manner, combine, guided):
        return generate.sample(pipe, prompts, latents, **sampling)
