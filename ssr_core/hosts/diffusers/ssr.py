"""The SSR-Encoder in diffusers: subjects out of pictures, and pictures with subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from ...merge import Combine
from ...methods.ssr.encode import Encoder, Selection, encode_subjects
from ...methods.ssr.encoder import SSREncoder
from ...methods.ssr.subject import Scaling, Subject, SubjectSet, branch_inputs, check_encoder
from ...points import Point
from ...schedule import Manner
from ...vision import Fit
from . import generate
from .base import Base
from .encoders import vision_model
from .sets import sets_attached


def for_encoding(encoder: SSREncoder) -> Encoder:
    """An SSREncoder as encode.encode_subjects takes it."""

    @torch.no_grad()
    def align(query: Tensor, features: Tensor, mask: Tensor | None, weight: float) -> Any:
        home = next(encoder.parameters())
        mask = None if mask is None else mask.to(home.device)
        return encoder(query.to(home.device, home.dtype), features.to(home.device, home.dtype), mask, weight)

    return Encoder(encoder.config, encoder.fingerprint, align)


def encode(
    base: Base,
    encoder: SSREncoder,
    picture: Image.Image,
    query: str,
    mask: Tensor | None = None,
    mask_weight: float = 1.0,
    fit: Fit = "center crop",
    strength: float = 1.0,
    null_query: str = "",
    points: Sequence[Point] = (),
) -> SubjectSet:
    """The subject that query, mask [H, W] and points select in a picture."""
    words, nothing = base.query(query), base.query(null_query)
    masks = None if mask is None else mask[None]
    selection = Selection(words, nothing, masks, mask_weight, points, fit)
    return encode_subjects(
        for_encoding(encoder), vision_model(base.vision_encoder), [picture.convert("RGB")], selection, strength
    )


@contextmanager
def subjects_attached(
    unet: Any,
    encoder: SSREncoder,
    subjects: SubjectSet | Sequence[SubjectSet],
    manner: Manner | float = 0.65,
    combine: Combine = "joint",
    scaling: Scaling = "official",
    guidance: bool | None = None,
) -> Iterator[None]:
    """Attach subjects to a UNet for the length of a with-block.

    subjects: one set that all pictures share, or a list with one set per picture, all of the same size. manner: how they act, or their
    strength alone; 0.65 is that of SSR-Encoder's infer_text.py. guidance: whether pipelines draw with classifier-free guidance; None finds
    it out from what they hand to the UNet (sets.sides_of). Raises ValueError where a batch is not arranged as `guidance` says.
    """
    shared = all(isinstance(one, Subject) for one in subjects)
    sets: list[SubjectSet] = [cast(SubjectSet, tuple(subjects))] if shared else list(cast(Sequence[SubjectSet], subjects))
    for one in sets:
        if not isinstance(one, list | tuple):
            raise ValueError(
                f"A picture's subjects are a {type(one).__name__}; expected the set that encoding a picture gives."
            )
        check_encoder(one, encoder.fingerprint)
    inputs = [branch_inputs(one, combine, scaling) for one in sets]
    how = manner if isinstance(manner, Manner) else Manner(manner)
    with sets_attached(unet, encoder.config.layout, encoder, inputs, how, guidance):
        yield


def sample(
    pipe: Any,
    encoder: SSREncoder,
    subjects: SubjectSet | Sequence[SubjectSet],
    prompts: Sequence[str],
    latents: Tensor,
    manner: Manner | float = 0.65,
    combine: Combine = "joint",
    scaling: Scaling = "official",
    **sampling: Any,
) -> Tensor:
    """Latents of one picture per prompt. subjects and manner: as subjects_attached takes them; sampling: as generate.sample does."""
    if not subjects:
        return generate.sample(pipe, prompts, latents, **sampling)
    guided = sampling.get("guidance", generate.GUIDANCE) > 1
    with subjects_attached(pipe.unet, encoder, subjects, manner, combine, scaling, guided):
        return generate.sample(pipe, prompts, latents, **sampling)
