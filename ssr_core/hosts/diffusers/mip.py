"""The MIP-Adapter in diffusers: objects out of pictures, and pictures with objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from ...merge import Combine
from ...methods.mip.adapter import AdapterConfig, MIPAdapter
from ...methods.mip.encode import PUBLISHED, Adapter, References, encode_object, tower_of
from ...methods.mip.objects import (
    MERGES,
    MIPObject,
    Name,
    ObjectSet,
    active,
    branch_inputs,
    check_adapter,
    check_length,
    check_name,
    regions_of,
)
from ...schedule import Manner
from . import generate
from .base import Base
from .encoders import pieces_of, vision_model
from .sets import sets_attached

SCALE, SCALE_RESAMPLER = 0.75, 0.65
"""Strength of the authors' demo, inference.py, for the pooled variant and for the one with a resampler; this and the following:
hqhQAQ/MIP-Adapter."""
NEGATIVE = "monochrome, lowres, bad anatomy, worst quality, low quality"
"""The negative prompt of their demo and of their evaluation."""


def strength_of(config: AdapterConfig) -> float:
    """What the authors draw an adapter of these shapes with."""
    return SCALE if config.pooled else SCALE_RESAMPLER


def vision_named(config: AdapterConfig) -> str:
    """The vision model that an adapter of these shapes takes, and where it is published."""
    tower = tower_of(config)
    return "the CLIP vision model it was trained with" if tower is None else f"{tower} ({PUBLISHED[tower]})"


def for_encoding(adapter: MIPAdapter) -> Adapter:
    """A MIPAdapter as encode.encode_object takes it."""

    @torch.no_grad()
    def to_tokens(features: Tensor) -> Tensor:
        home = next(adapter.parameters())
        return adapter(features.to(home.device, home.dtype))

    return Adapter(adapter.config, adapter.fingerprint, to_tokens)


def encode_name(base: Base, text: str) -> Name:
    """An object's name by the base's text encoders, and the same rows of the encoding of nothing (mip.md, section 4)."""
    count = name_length(base.tokenizer, text)
    named, nothing = base.embed([text, ""]).float().cpu()[:, 1 : 1 + count]  # [W, D] each
    return Name(text, named, nothing)


def name_length(tokenizer: Any, text: str) -> int:
    """How many tokens of the first text encoder an object's name has. Raises ValueError for one that is empty or too long."""
    check_name(text)
    ids = tokenizer([text]).input_ids[0]
    count = len(pieces_of(tokenizer, torch.tensor(ids))) - 1
    check_length(text, count)
    return count


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
