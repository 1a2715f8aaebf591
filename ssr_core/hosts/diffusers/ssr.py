"""The SSR-Encoder in diffusers: subjects out of pictures, and pictures with subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from ...attention import NULL, SUBJECT
from ...merge import Combine
from ...methods.ssr.encode import Encoder, Selection, encode_subjects
from ...methods.ssr.encoder import SSREncoder
from ...methods.ssr.subject import Scaling, Subject, SubjectSet, branch_inputs, check_encoder, check_representable
from ...points import Point
from ...schedule import Manner
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
    manner: Manner | float = 0.65,
    combine: Combine = "joint",
    scaling: Scaling = "official",
    guidance: bool | None = None,
) -> Iterator[None]:
    """Attach subjects to a UNet for the length of a with-block.

    subjects: one set that all pictures share, or a list with one set per picture, all of the same size. manner: how they act, or their
    strength alone; 0.65 is that of SSR-Encoder's infer_text.py. guidance: whether pipelines draw with classifier-free guidance; None finds
    it out from what they hand to the UNet (sides_of). Raises ValueError where a batch is not arranged as `guidance` says.
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
    if len({tuple(branch.tokens.shape for branch in branches) for branches in inputs}) > 1:
        raise ValueError("The pictures of a batch have different numbers of subjects; give every picture as many.")
    home = next(encoder.parameters())
    attached = []
    for parts in zip(*inputs, strict=True):  # one branch, every picture's
        # [2, N, D] each -> [unconditional rows of all pictures, then conditional ones]
        rows = (
            torch.stack(part, dim=1).flatten(0, 1).to(home.device, home.dtype)
            for part in zip(*(one.rows for one in parts), strict=True)
        )
        made = list(encoder.project(*rows))
        own = next(unet.parameters()).dtype
        check_representable(((key.to(own), value.to(own)) for key, value in made), own)
        attached.append(made)
    words = [[branch.word_embeds for branch in branches if branch.word_embeds is not None] for branches in inputs]
    words = words if any(words) else []
    last: tuple[Any, int, tuple[int, ...]] | None = None

    def rows_of(latents: Tensor, text: Tensor) -> list[int]:
        """The batch is looked at once a sampling, since that waits for the device: pipelines hand over the same text at every step."""
        nonlocal last
        count = latents.shape[0]
        if last is None or last[0] is not text or last[1] != count:
            last = text, count, sides_of(latents, text, guidance)
            if count % (len(last[2]) * len(sets)):
                raise ValueError(
                    f"The UNet got {count} latents for the subjects of {len(sets)} pictures; expected as many on each side."
                )
        return [side * len(sets) + number for side in last[2] for number in range(len(sets))]

    how = manner if isinstance(manner, Manner) else Manner(manner)
    with branches_attached(unet, encoder.config.layout, attached, rows_of, how, words * 2, pictures=len(sets)):
        yield


def sides_of(latents: Tensor, text: Tensor, guidance: bool | None = None) -> tuple[int, ...]:
    """Which sides of the guidance a batch is made of, in order: NULL and SUBJECT.

    Pipelines lay the same latents behind each other, once a side: [unconditional | conditional], or with perturbed-attention guidance
    [unconditional | conditional | conditional]. Different latents are different pictures, all of them conditional.
    """
    if isinstance(text, tuple):  # an IP-Adapter's pictures lie behind it
        text = text[0]
    count = latents.shape[0]
    repeated = next((times for times in (3, 2) if count % times == 0 and _repeats(latents, times)), 1)
    if guidance is False:
        return (SUBJECT,) * repeated
    if repeated == 1:
        if guidance:
            raise ValueError(
                f"The UNet got {count} different latents, expected every picture's twice, for classifier-free guidance. Pass a "
                "guidance_scale above 1 to the pipeline, or guidance=False here."
            )
        return (SUBJECT,)
    if guidance is None and _repeats(text, repeated):
        raise ValueError(
            "The prompt and the negative prompt are the same, so it cannot be found out which of the UNet's batch is conditional. "
            "Pass guidance=True if the pipeline draws with classifier-free guidance, else guidance=False."
        )
    return (NULL, *(SUBJECT,) * (repeated - 1))


def _repeats(batch: Tensor, times: int) -> bool:
    first, *others = batch.chunk(times)
    return all(torch.equal(first, other) for other in others)


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
