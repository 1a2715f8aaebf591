"""ELITE in diffusers: subjects out of pictures, prompts that say them, and pictures with subjects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from PIL import Image
from torch import Tensor

from ...attention import SUBJECT
from ...branches import check_representable
from ...methods.elite.encode import Encoder, Selection, encode_subjects
from ...methods.elite.framing import MARGIN, Framing
from ...methods.elite.mapper import Elite
from ...methods.elite.subject import DEFAULT_LAMBDA, DEFAULT_WORDS, EliteSubject, EliteSubjects, acting, check_encoder
from ...points import Point
from ...schedule import Manner
from . import generate
from .attach import KeysValues, branches_attached
from .base import Base
from .encoders import vision_model
from .prompt import encode_with_words
from .sets import rows_of_pictures
from .text_weights import text_weights_replaced

WHAT = "ELITE"
PLACEHOLDER = "S"
"""The authors' (csyxwei/ELITE, inference_local.py)."""


class Prompts(NamedTuple):
    """embeds: [texts, T, D]; places: by text and subject, the tokens at which it is said."""

    embeds: Tensor
    places: Sequence[Mapping[str, tuple[int, ...]]]


def for_encoding(elite: Elite) -> Encoder:
    """ELITE as encode.encode_subjects takes it."""
    home = next(elite.parameters())

    @torch.no_grad()
    def words(features: Tensor) -> Tensor:
        return elite.global_mapper(features.to(home.device, home.dtype))

    @torch.no_grad()
    def tokens(features: Tensor, mask: Tensor) -> Tensor:
        return elite.local_mapper(features.to(home.device, home.dtype), mask.to(home.device))  # type: ignore[misc]  # asked below

    return Encoder(elite.config, elite.fingerprint, words, None if elite.local_mapper is None else tokens)


def encode(
    base: Base,
    elite: Elite,
    picture: Image.Image,
    mask: Tensor | None = None,
    framing: Framing = "crop to mask",
    margin: float = MARGIN,
    strength: float = 1.0,
    points: Sequence[Point] = (),
) -> EliteSubjects:
    """The subject that mask [H, W] and points mark in a picture; without them the whole of it."""
    selection = Selection(None if mask is None else mask[None], framing, margin, points)
    return encode_subjects(
        for_encoding(elite), vision_model(base.vision_encoder), [picture.convert("RGB")], selection, strength
    )


def encode_prompts(
    tokenizer: Any,
    text_encoder: Any,
    subjects: EliteSubjects | Sequence[EliteSubjects],
    texts: Sequence[str],
    placeholders: Sequence[str] = (PLACEHOLDER,),
    words: int = DEFAULT_WORDS,
) -> Prompts:
    """Texts in which subjects stand in the place of their placeholders, wherever they say them.

    subjects: one set for all texts, or one for each; words: how many of each subject's words stand there.
    """
    sets = _sets(subjects, len(texts))
    for one in sets:
        if len(one) != len(placeholders):
            raise ValueError(
                f"There are {len(placeholders)} placeholders for {len(one)} subjects; expected one for each, in order."
            )
    vectors = {
        name: torch.stack([one[number].first_words(words) for one in sets]) for number, name in enumerate(placeholders)
    }  # [texts, n, D] each
    with torch.no_grad():
        encoded = encode_with_words(tokenizer, text_encoder, texts, vectors)
    places: list[dict[str, tuple[int, ...]]] = []
    for one, found in zip(sets, encoded.places, strict=True):
        of_text: dict[str, tuple[int, ...]] = {}
        for subject, name in zip(one, placeholders, strict=True):
            of_text[subject.identity] = (*of_text.get(subject.identity, ()), *found[name])
        places.append(of_text)
    return Prompts(encoded.embeds, places)


@contextmanager
def subjects_attached(
    unet: Any,
    elite: Elite,
    subjects: EliteSubjects | Sequence[EliteSubjects],
    places: Sequence[Mapping[str, tuple[int, ...]]],
    manner: Manner | float = DEFAULT_LAMBDA,
    guidance: bool | None = None,
) -> Iterator[None]:
    """Attach subjects to a UNet for the length of a with-block: it reads texts as ELITE does, and the local tokens act where heads attend
    to their words.

    subjects: one set that all pictures share, or a list with one set per picture, all of the same size; places: by picture, as
    encode_prompts gives them, or of one picture for all. manner: of the local tokens, or their strength (lambda) alone. guidance: whether
    pipelines draw with classifier-free guidance; None finds it out from what they hand to the UNet (sets.sides_of). Raises ValueError
    where a batch is not arranged as `guidance` says.
    """
    sets = _sets(subjects, len(places))
    for one in sets:
        check_encoder(one, elite.fingerprint)
    how = manner if isinstance(manner, Manner) else Manner(manner)
    layout = elite.config.layout
    pairs = [(matrices.key, matrices.value) for matrices in elite.global_mapper.matrices()]
    with text_weights_replaced(unet, layout, pairs, elite.fingerprint, WHAT):
        numbers = {tuple(number for number, _ in acting(one)) for one in sets} if how.acts else {()}
        if len(numbers) > 1:
            raise ValueError("The pictures of a batch have different subjects that act; give every picture as many.")
        (acts,) = numbers
        branches = [_keys_values(elite, [one[number] for one in sets], next(unet.parameters()).dtype) for number in acts]
        said = [[found.get(one[number].identity, ()) for one, found in zip(sets, places, strict=True)] for number in acts]
        rows = rows_of_pictures(len(places), guidance, lambda side, number: number if side == SUBJECT else None)
        with branches_attached(unet, layout, branches, rows, how, pictures=len(places), said=said):
            yield


def sample(
    pipe: Any,
    elite: Elite,
    subjects: EliteSubjects | Sequence[EliteSubjects],
    prompts: Sequence[str],
    latents: Tensor,
    manner: Manner | float = DEFAULT_LAMBDA,
    placeholders: Sequence[str] = (PLACEHOLDER,),
    words: int = DEFAULT_WORDS,
    **sampling: Any,
) -> Tensor:
    """Latents of one picture per prompt. subjects and manner: as subjects_attached takes them; placeholders, words: as encode_prompts
    does; sampling: as generate.sample does."""
    guided = sampling.get("guidance", generate.GUIDANCE) > 1
    said = encode_prompts(pipe.tokenizer, pipe.text_encoder, subjects, prompts, placeholders, words)
    with subjects_attached(pipe.unet, elite, subjects, said.places, manner, guided):
        return generate.sample(pipe, prompts, latents, prompt=None, prompt_embeds=said.embeds, **sampling)


def _sets(subjects: EliteSubjects | Sequence[EliteSubjects], pictures: int) -> list[EliteSubjects]:
    """A set for each picture."""
    if all(isinstance(one, EliteSubject) for one in subjects):
        return [cast(EliteSubjects, tuple(subjects))] * pictures
    sets = list(cast(Sequence[EliteSubjects], subjects))
    if len(sets) != pictures or len({len(one) for one in sets}) > 1:
        raise ValueError(
            f"There are sets of {', '.join(str(len(one)) for one in sets)} subjects for {pictures} prompts; expected one set for all, or "
            "one for each, all of the same size."
        )
    return sets


def _keys_values(elite: Elite, subjects: Sequence[EliteSubject], dtype: torch.dtype) -> KeysValues:
    """K and V of one subject of every picture, [pictures, N, C] each. A subject's strength scales its values."""
    assert elite.local_mapper is not None
    home = next(elite.local_mapper.parameters())
    tokens = torch.stack([cast(Tensor, subject.tokens) for subject in subjects]).to(home.device, home.dtype)
    strengths = torch.tensor([subject.strength for subject in subjects], device=home.device, dtype=home.dtype)[:, None, None]
    made = [(key, value * strengths) for key, value in elite.local_mapper.project(tokens)]
    check_representable(((key.to(dtype), value.to(dtype)) for key, value in made), dtype)
    return made
