"""Learned subjects, as users pass them along, rename, combine, save and share them.

Frozen data, no behaviour that touches a model: a host builds the embedder that runs (embedder). A subject stands for one token, its
placeholder, and knows which kind of base it was learned on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ... import finite
from ...layout import UNetLayout
from ...shown import shown
from .contexts import ALPHA, checked_alpha
from .embedder import EmbedderShapes, SubjectEmbedder, fingerprint

MOST_SUBJECTS = 16
"""In one set: each needs a placeholder in the prompt, and few people tell more than three apart in a picture."""
MOST_PLACEHOLDER_LETTERS = 64
MOST_TOKEN = 1 << 20
"""Number of a token: CLIP has 49,408."""

DeltaVariant = Literal["repaired", "as committed", "none", "unknown"]
DELTA_VARIANTS: tuple[DeltaVariant, ...] = get_args(DeltaVariant)


@dataclass(frozen=True)
class BaseModel:
    """What a subject was learned on. text_encoder: fingerprint of its table of tokens (table_fingerprint), "" where it is not known."""

    name: str = ""
    text_encoder: str = ""


@dataclass(frozen=True)
class Learning:
    """How a subject was learned, for people and for going on: words with a weight each, the word for its class, steps done."""

    words: tuple[tuple[str, float], ...] = ()
    class_word: str = ""
    step: int = 0
    delta: DeltaVariant = "unknown"


@dataclass(frozen=True, eq=False)
class LasrSubject:
    """One subject.

    shapes, weights: of its embedder; weights in float32 on the CPU under the embedder's own names
    placeholder, token: the word that stands for it in prompts, and that word's single token
    alpha: share of the adaptive contexts that it was learned for; strength: what multiplies its vectors
    vectors: [N, D], the words' embeddings that it began with; None in files that do not keep them, which learning cannot go on from
    """

    shapes: EmbedderShapes
    weights: Mapping[str, Tensor]
    placeholder: str
    token: int
    alpha: float = ALPHA
    strength: float = 1.0
    base: BaseModel = field(default_factory=BaseModel)
    learning: Learning = field(default_factory=Learning)
    vectors: Tensor | None = None

    def __post_init__(self) -> None:
        named = f'subject "{shown(self.placeholder, 40)}"'
        if not self.placeholder.strip() or len(self.placeholder) > MOST_PLACEHOLDER_LETTERS:
            raise ValueError(
                f'"{shown(self.placeholder, 40)}" is no placeholder. Choose a short word that is one token, such as "z" or "y".'
            )
        object.__setattr__(self, "token", finite.whole(self.token, f"The token of the {named}", 0, MOST_TOKEN))
        object.__setattr__(self, "strength", finite.strength(self.strength, f"The strength of the {named}"))
        object.__setattr__(self, "alpha", checked_alpha(self.alpha))

    @property
    def fingerprint(self) -> str:
        """Identity of what was learned, whatever it is called and however strong it is."""
        return fingerprint(self.weights, self.shapes)

    def embedder(self) -> SubjectEmbedder:
        """A module of its own with these weights, without gradients, on the CPU."""
        with torch.device("meta"):  # first values would be drawn from the generator that samplers draw their noise from
            made = SubjectEmbedder(self.shapes)
        made.load_state_dict({name: value.clone() for name, value in self.weights.items()}, assign=True)
        return made.requires_grad_(False).train(False)

    def scaled(self, factor: float) -> LasrSubject:
        return replace(self, strength=self.strength * factor)

    def renamed(self, placeholder: str, token: int) -> LasrSubject:
        """The same subject under another placeholder. token: of that word (from_words.one_token)."""
        return replace(self, placeholder=placeholder.strip(), token=token)


LasrSubjects = tuple[LasrSubject, ...]


def weights_of(embedder: SubjectEmbedder) -> dict[str, Tensor]:
    """A copy of an embedder's weights, as a LasrSubject keeps them."""
    return {name: value.detach().to("cpu", torch.float32).clone() for name, value in embedder.state_dict().items()}


def together(*sets: LasrSubjects) -> LasrSubjects:
    """Sets one after the other. Raises ValueError for too many, for two with one placeholder, and for subjects of different bases."""
    check_count(sum(map(len, sets)))
    subjects = tuple(subject for one in sets for subject in one)
    check_together(subjects)
    return subjects


def active(subjects: LasrSubjects) -> LasrSubjects:
    """The subjects that act: with a strength of zero, a placeholder is the ordinary word again."""
    return tuple(subject for subject in subjects if subject.strength != 0.0)


def check_count(count: int) -> None:
    if count > MOST_SUBJECTS:
        raise ValueError(
            f"{count:,} subjects are too many for one set; it holds {MOST_SUBJECTS} at most. Combine fewer. (A set that goes into several "
            "slots counts as often.)"
        )


def _free(subjects: Iterable[LasrSubject]) -> str:
    """A placeholder that none of them has."""
    taken = {subject.placeholder.lower() for subject in subjects}
    return next((letter for letter in "zyxwvutsrq" if letter not in taken), "zz")


def check_together(subjects: Iterable[LasrSubject]) -> None:
    """Whether subjects can stand in one prompt: each has a placeholder of its own, and all fit one UNet and text encoder."""
    by_token: dict[int, LasrSubject] = {}
    subjects = tuple(subjects)
    for subject in subjects:
        first = next(iter(by_token.values()), subject)
        if (other := by_token.get(subject.token)) is not None:
            raise ValueError(
                f'Two subjects have the placeholder "{shown(subject.placeholder, 40)}"'
                + (
                    ""
                    if other.placeholder == subject.placeholder
                    else f' (as "{shown(other.placeholder, 40)}", the same token)'
                )
                + f". Give one of them another in Load Subject, such as {_free(subjects)}."
            )
        if (subject.shapes.layout, subject.shapes.text_width) != (first.shapes.layout, first.shapes.text_width):
            raise ValueError(
                f'The subjects "{shown(first.placeholder, 40)}" and "{shown(subject.placeholder, 40)}" were learned on different kinds of '
                f"models: {_kind(first.shapes)} and {_kind(subject.shapes)}. Combine subjects of one kind."
            )
        by_token[subject.token] = subject


def set_alpha(subjects: LasrSubjects) -> float:
    """The alpha of a set whose user gives none: the last subject's, as in askerlee/AdaFace-dev, ldm/modules/embedding_manager.py."""
    return subjects[-1].alpha if subjects else ALPHA


def check_base(subjects: LasrSubjects, layout: UNetLayout, text_width: int) -> None:
    """Refuse subjects that were learned on another kind of model: their vectors and networks do not fit this one."""
    for subject in subjects:
        if subject.shapes.layout != layout or subject.shapes.text_width != text_width:
            found = EmbedderShapes(layout, text_width)
            raise ValueError(
                f'The subject "{shown(subject.placeholder, 40)}" was learned on {_base_name(subject)}, with {_kind(subject.shapes)}; this '
                f"model has {_kind(found)}. Load the kind of model it was learned on, or learn the subject on this one."
            )


def other_text_encoder(subjects: LasrSubjects, table: str) -> str | None:
    """A warning if a subject was learned with another text encoder of the same shapes, whose vectors may mean something else; else None.

    table: table_fingerprint of the one in use.
    """
    strangers = [subject for subject in subjects if subject.base.text_encoder not in ("", table)]
    if not strangers:
        return None
    names = ", ".join(f'"{shown(subject.placeholder, 40)}" (learned on {_base_name(subject)})' for subject in strangers)
    return f"The text encoder is not the one that these subjects were learned with: {names}. They may look different."


def table_fingerprint(table: Tensor) -> str:
    """Of a text encoder's table of token embeddings [V, D]: the same in full and in half precision, and under every name.

    Every 64th row and every 8th column, rounded to half precision as files of both kinds store them.
    """
    digest = hashlib.blake2b(str(tuple(table.shape)).encode(), digest_size=16)
    sample = table.detach()[::64, ::8].to("cpu", torch.float32).clamp(-6e4, 6e4).to(torch.float16)
    digest.update(sample.contiguous().numpy())  # type: ignore[arg-type]  # a contiguous array is a buffer
    return digest.hexdigest()


def _base_name(subject: LasrSubject) -> str:
    return shown(subject.base.name, 60) or "a model that its file does not name"


def _kind(shapes: EmbedderShapes) -> str:
    channels = "-".join(map(str, shapes.layout.channels))
    return (
        f"{len(shapes.layers)} layers with cross-attention, levels of {channels} channels and text of width {shapes.text_width}"
    )
