"""Subjects: what an encoder took from a picture under a query, as users pass it along, combine, save and share it.

Frozen data, no behaviour that touches a model. How several subjects become one or several branches is here too (branch_inputs), up to
the tokens that a branch's rows NULL and SUBJECT are projected from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ... import finite
from ...branches import BranchInput, joined
from ...choices import choice
from ...maps import Box, ReferenceMap
from ...merge import COMBINES, Combine
from ...shown import shown
from ...vision import Fit, seen_box
from ...words import Word

Scaling = Literal["official", "value only"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
"""What a subject's own strength multiplies.

official: its tokens on the conditional side, so keys and values (generate_multi in Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py)
value only: its values on both sides, so the strength is linear and leaves the softmax alone
"""

MOST_SUBJECTS = 64
"""In one set. Each adds 462 tokens to every layer; what is drawn of more than a handful nobody recognises."""
MOST_QUERY_LETTERS = 10_000
"""Of a query; its first 75 tokens count."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject. N = scales * text tokens.

    tokens, null_tokens: [N, D]; what the sides SUBJECT and NULL attend to
    attention: [T, P]; the aligner's map, averaged over heads, CLS first
    picture: uint8 [size, size, 3]; the part of the reference that the vision model saw
    source_size: (height, width) of the reference; fit: how that part was chosen
    words: the query's words and their token positions
    encoder: fingerprint of the encoder that made it
    strength: the subject's own among several
    word_embeds: [W, D], the words' text embeddings in the query; None in files of earlier versions
    marked: [P-1] in 0..1, the patches that a mask query marked; None where words alone selected
    crop: what of the reference was framed, in whole pixels; None for all of it
    """

    tokens: Tensor
    null_tokens: Tensor
    attention: Tensor
    picture: Tensor
    query: str
    words: tuple[Word, ...]
    encoder: str
    source_size: tuple[int, int]
    fit: Fit = "center crop"
    strength: float = 1.0
    word_embeds: Tensor | None = None
    marked: Tensor | None = None
    crop: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "strength", finite.strength(self.strength, f'The strength of the subject "{shown(self.query, 40)}"')
        )

    @property
    def box(self) -> Box:
        """(left, top, right, bottom) of what the encoder saw of the reference, in its pixels (vision.seen_box)."""
        height, width = self.source_size
        return seen_box(width, height, self.picture.shape[0], self.fit, self.crop)

    def scaled(self, factor: float) -> Subject:
        return replace(self, strength=self.strength * factor)

    def heat(self, word: str = "") -> Tensor:
        """Where the query looks: [grid, grid], the mean map over its words, or over one of them, divided by its maximum."""
        positions = [position for entry in self._chosen(word) for position in range(entry.first, entry.stop)]
        patches = self.attention[positions or slice(None), 1:].float().mean(dim=0)  # [P-1]
        grid = math.isqrt(patches.numel())
        return (patches / patches.max().clamp_min(1e-12)).view(grid, grid)

    def map(self, word: str = "") -> ReferenceMap:
        """heat, with what is needed to draw it over the reference."""
        return ReferenceMap(self.heat(word), self.picture, self.source_size, self.box)

    def _chosen(self, word: str) -> tuple[Word, ...]:
        word = word.strip().lower()
        chosen = tuple(entry for entry in self.words if not word or entry.text.lower() == word)
        if word and not chosen:
            words = ", ".join(entry.text for entry in self.words) or "none"
            raise ValueError(
                f'The query "{shown(self.query, 60)}" has no word "{shown(word, 60)}"; its words are: {shown(words)}.'
            )
        return chosen


SubjectSet = tuple[Subject, ...]


def together(*sets: SubjectSet) -> SubjectSet:
    """Sets one after the other. Raises ValueError beyond MOST_SUBJECTS, before they are laid out."""
    check_count(sum(map(len, sets)))
    return tuple(subject for subjects in sets for subject in subjects)


def check_count(count: int, what: str = "subjects") -> None:
    if count > MOST_SUBJECTS:
        raise ValueError(
            f"{count:,} {what} are too many for one set; it holds {MOST_SUBJECTS} at most. Combine fewer. (A set that goes into several "
            "slots counts as often.)"
        )


def active(subjects: SubjectSet) -> SubjectSet:
    """The subjects that act: a strength of zero removes a subject altogether."""
    return tuple(subject for subject in subjects if subject.strength != 0.0)


def branch_inputs(subjects: SubjectSet, combine: Combine, scaling: Scaling) -> tuple[BranchInput, ...]:
    """The branches that a set of subjects makes: one for "joint", one per subject for "separate" and "by word".

    Each strength acts on its own subject's tokens. (generate_multi in Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py, takes one
    for each subject and applies the first to all of them.)
    """
    check_count(len(subjects))
    choice(combine, COMBINES, "combine")
    choice(scaling, SCALINGS, "scaling")
    rows = [torch.stack([subject.null_tokens, subject.tokens]) for subject in active(subjects)]  # [2, N, D] each
    scales = [_scale_rows(subject, scaling) for subject in active(subjects)]
    if not rows:
        return ()
    shared = combine == "by word" and len(rows) > 1  # a single subject has every position whole
    words = [_word_embeds(subject)[None] if shared else None for subject in active(subjects)]
    branches = tuple(BranchInput(row, *scale, word) for row, scale, word in zip(rows, scales, words, strict=True))
    return (joined(branches),) if combine == "joint" else branches


def joint_tokens(subjects: SubjectSet) -> Tensor:
    """The tokens of all active subjects, each scaled by its strength on the conditional side: [2, N, D], row NULL and row SUBJECT.

    This is what Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py, appends to the prompt.
    """
    (branch,) = branch_inputs(subjects, "joint", "official")
    return branch.tokens * branch.key_scale


def _word_embeds(subject: Subject) -> Tensor:
    """[W, D]; W = 0 for a subject that a mask alone selected."""
    if not subject.words:
        return subject.tokens.new_zeros(0, subject.tokens.shape[1])
    if subject.word_embeds is None:
        raise ValueError(
            f'The subject "{shown(subject.query, 60)}" comes from a file of an earlier version, which did not keep what combining '
            "by word needs. Encode it again, or combine joint or separate."
        )
    return subject.word_embeds


def _scale_rows(subject: Subject, scaling: Scaling) -> tuple[Tensor, Tensor]:
    ones = torch.ones(2, subject.tokens.shape[0], 1)
    if scaling == "official":
        scale = torch.cat([ones[:1], ones[:1] * subject.strength])
        return scale, scale
    return ones, ones * subject.strength


def pick(subjects: SubjectSet, index: int) -> tuple[int, Subject]:
    """The place of subject number `index` in the set, and that subject. Users count from 1."""
    if not 1 <= index <= len(subjects):
        raise ValueError(
            f"There is no subject {index}; this set holds {len(subjects)}. Choose an index from 1 to {len(subjects)}."
        )
    return index - 1, subjects[index - 1]


def check_encoder(subjects: SubjectSet, encoder: str) -> None:
    """Refuse subjects that another encoder made: their tokens mean nothing to this one's projections."""
    for subject in subjects:
        if not isinstance(subject, Subject):
            raise ValueError(f"A subject is a {type(subject).__name__}; expected what encoding a picture gives. Encode it.")
        if subject.encoder != encoder:
            raise ValueError(
                f'The subject "{shown(subject.query, 60)}" was made by another encoder ({shown(subject.encoder[:12]) or "unknown"}) than '
                f"the one connected here ({encoder[:12]}). Encode it again with this encoder, or connect the encoder that made it."
            )
