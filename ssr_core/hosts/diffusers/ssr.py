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
from ...vision import Fit
from . import generate
from .attach import branches_attached
from .base import Base
from .encoders import encode_query, vision_model


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
    words, nothing = (encode_query(base.tokenizer, base.text_encoder, text) for text in (query, null_query))
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
    strength: float = 0.65,
    combine: Combine = "joint",
    scaling: Scaling = "official",
    layer_strengths: Sequence[float] | None = None,
    guidance: bool = True,
) -> Iterator[None]:
    """Attach subjects to a UNet for the length of a with-block.

    subjects: one set that all pictures share, or a list with one set per picture, all of the same size.
    guidance: the batch is [unconditional | conditional], as pipelines with classifier-free guidance arrange it; else all of it is
    conditional. strength: 0.65 is what Xiaojiu-z/SSR_Encoder's infer_text.py uses.
    """
    shared = all(isinstance(one, Subject) for one in subjects)
    sets: list[SubjectSet] = [cast(SubjectSet, tuple(subjects))] if shared else list(cast(Sequence[SubjectSet], subjects))
    for one in sets:
        check_encoder(one, encoder.fingerprint)
    inputs = [branch_inputs(one, combine, scaling) for one in sets]
    if len({tuple(branch.tokens.shape for branch in branches) for branches in inputs}) > 1:
        raise ValueError("The pictures of a batch have different numbers of subjects; give every picture as many.")
    parameter, home = next(unet.parameters()), next(encoder.parameters())
    attached = []
    for parts in zip(*inputs, strict=True):  # the same branch of every picture
        # [2, N, D] each -> [unconditional rows of all pictures, then conditional ones]
        tokens, key_scale, value_scale = (
            torch.stack(part, dim=1).flatten(0, 1).to(home.device, home.dtype)
            for part in zip(*(one.rows for one in parts), strict=True)
        )
        attached.append(
            tuple(
                (
                    (key * key_scale).to(parameter.device, parameter.dtype),
                    (value * value_scale).to(parameter.device, parameter.dtype),
                )
                for key, value in encoder.project(tokens)
            )
        )
    words = [[branch.word_embeds for branch in branches if branch.word_embeds is not None] for branches in inputs]
    if all(len(of_picture) < 2 for of_picture in words):
        words = []  # a single subject shares with nobody
    null, chosen = range(len(sets)), range(len(sets), 2 * len(sets))
    rows = [*null, *chosen] if guidance else list(chosen)
    with branches_attached(
        unet, encoder.config.layout, attached, rows, strength, layer_strengths, words * (2 if guidance else 1)
    ):
        yield


def sample(
    pipe: Any,
    encoder: SSREncoder,
    subjects: SubjectSet | Sequence[SubjectSet],
    prompts: Sequence[str],
    latents: Tensor,
    strength: float = 0.65,
    combine: Combine = "joint",
    scaling: Scaling = "official",
    layers: Sequence[float] | None = None,
    guidance: float = 5.0,
    **sampling: Any,
) -> Tensor:
    """Latents of one picture per prompt. subjects: as subjects_attached takes them; sampling: as generate.sample does."""
    if not subjects:
        return generate.sample(pipe, prompts, latents, guidance=guidance, **sampling)
    with subjects_attached(pipe.unet, encoder, subjects, strength, combine, scaling, layers, guidance=guidance > 1):
        return generate.sample(pipe, prompts, latents, guidance=guidance, **sampling)
