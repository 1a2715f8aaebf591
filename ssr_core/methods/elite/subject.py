"""What ELITE took from a picture and its mask, as users pass it along, combine, save and share it. Frozen data, no behaviour that touches a
model. Which word of a prompt it becomes is for the prompt to say."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ... import finite
from ...maps import Box, ReferenceMap
from ...shown import shown
from .framing import Framing

MOST_SUBJECTS = 64
"""In one set."""
DEFAULT_WORDS = 1
"""Of a subject's words that stand in a prompt: the first says what it is, the others take up what training pictures show besides (elite.md,
1)."""
DEFAULT_LAMBDA = 0.8
"""Strength of the local tokens in the authors' scripts; their demo starts at 0.6 (elite.md, 6)."""


@dataclass(frozen=True, eq=False)
class EliteSubject:
    """One subject.

    words: [W, D], in the place of a token's embedding; the first alone says what the subject is
    tokens: [P, D], of the object's patches, zero outside the mask; None where there was no local mapper
    patches: [P] of 0 and 1, the mask
    picture: uint8 [size, size, 3]; the part of the reference that was seen
    source_size: (height, width) of the reference; box: that part of it; framing: how it was chosen
    encoder: fingerprint of the mappers that made it
    strength: the subject's own among several, times lambda
    """

    words: Tensor
    tokens: Tensor | None
    patches: Tensor
    picture: Tensor
    source_size: tuple[int, int]
    box: Box
    framing: Framing
    encoder: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", finite.strength(self.strength, "The strength of the subject"))

    @cached_property
    def identity(self) -> str:
        """Of what was taken from the picture, whatever its strength: by it a prompt tells whose word stands where."""
        digest = hashlib.blake2b(self.encoder.encode(), digest_size=16)
        for tensor in (self.words, self.patches, *(() if self.tokens is None else (self.tokens,))):
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy())
        return digest.hexdigest()

    def scaled(self, factor: float) -> EliteSubject:
        return replace(self, strength=self.strength * factor)

    def first_words(self, count: int = DEFAULT_WORDS) -> Tensor:
        """[count, D]. Raises ValueError where there are fewer."""
        count = finite.whole(count, "The number of words", 1, len(self.words))
        return self.words[:count]

    def map(self) -> ReferenceMap:
        """The mask as it acts, with what is needed to draw it over the reference."""
        grid = math.isqrt(self.patches.numel())
        return ReferenceMap(self.patches.float().view(grid, grid), self.picture, self.source_size, self.box)


EliteSubjects = tuple[EliteSubject, ...]


def together(*sets: EliteSubjects) -> EliteSubjects:
    """Sets one after the other. Raises ValueError beyond MOST_SUBJECTS, before they are laid out."""
    check_count(sum(map(len, sets)))
    return tuple(subject for subjects in sets for subject in subjects)


def check_count(count: int, what: str = "subjects") -> None:
    if count > MOST_SUBJECTS:
        raise ValueError(f"{count:,} {what} are too many for one set; it holds {MOST_SUBJECTS} at most. Combine fewer.")


def pick(subjects: EliteSubjects, index: int) -> tuple[int, EliteSubject]:
    """The place of subject number `index` in the set, and that subject. Users count from 1."""
    if not 1 <= index <= len(subjects):
        raise ValueError(
            f"There is no subject {index}; this set holds {len(subjects)}. Choose an index from 1 to {len(subjects)}."
        )
    return index - 1, subjects[index - 1]


def check_encoder(subjects: EliteSubjects, encoder: str) -> None:
    """Refuse subjects that other mappers made: their words and tokens mean nothing to these projections."""
    for number, subject in enumerate(subjects, start=1):
        if subject.encoder != encoder:
            raise ValueError(
                f"Subject {number} was made by another ELITE ({shown(subject.encoder[:12]) or 'unknown'}) than the one connected here "
                f"({encoder[:12]}). Encode it again with this ELITE, or connect the one that made it."
            )


def acting(subjects: Sequence[EliteSubject]) -> tuple[tuple[int, EliteSubject], ...]:
    """The subjects whose local tokens act, with their places in the set: neither without tokens nor of strength zero."""
    return tuple(
        (place, subject) for place, subject in enumerate(subjects) if subject.tokens is not None and subject.strength != 0.0
    )
