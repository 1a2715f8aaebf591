"""How a subject is to be learned, as users say it, and the subject as it is before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ... import finite
from ...layout import UNetLayout
from ...shown import shown
from .embedder import EmbedderShapes
from .from_words import Tokenize, WordToken, embedder_from_words, one_token, word_tokens, word_vectors
from .losses import RateSchedule
from .subject import BaseModel, DeltaVariant, LasrSubject, Learning, table_fingerprint, weights_of
from .texts import AUTO, OF_FRAMES

STEPS, BATCH, SEED, PHRASES = 4000, 2, 23, 2
"""The authors' (askerlee/AdaFace-dev, configs of LASR and their scripts)."""
RATE = 1e-3
"""For each picture of a batch."""
WARM_UP = 1 / 8
"""Of all steps: 500 of 4000."""
MOST_STEPS, MOST_BATCH, MOST_PHRASES, MOST_SEED = 1_000_000, 64, 16, 2**64 - 1
LEAST_RATE, MOST_RATE = 1e-8, 1.0


@dataclass(frozen=True)
class Recipe:
    """words, weights: what describes the subject, and a weight for each word, or none for equal ones; placeholder: the word that will
    stand for it; class_word: what it is, one token, or "" for the word of the largest weight; steps: in all, the schedule's length;
    phrases: for each picture and step; rate: for each picture of a batch; kind: of texts.TEXTS, or AUTO.

    Raises ValueError for numbers out of range.
    """

    words: str
    weights: tuple[float, ...] = ()
    placeholder: str = "z"
    class_word: str = ""
    steps: int = STEPS
    batch: int = BATCH
    seed: int = SEED
    phrases: int = PHRASES
    rate: float = RATE
    delta: DeltaVariant = "repaired"
    kind: str = AUTO

    def __post_init__(self) -> None:
        for name, least, most in (
            ("steps", 1, MOST_STEPS),
            ("batch", 1, MOST_BATCH),
            ("seed", 0, MOST_SEED),
            ("phrases", 1, MOST_PHRASES),
        ):
            object.__setattr__(self, name, finite.whole(getattr(self, name), name, least, most))
        object.__setattr__(self, "rate", finite.finite(self.rate, "rate (the learning rate)", LEAST_RATE, MOST_RATE))
        if self.delta not in ("repaired", "none"):
            raise ValueError(f'delta is "{shown(self.delta, 40)}"; a subject is learned with "repaired" or "none".')

    @property
    def schedule(self) -> RateSchedule:
        """The authors' shape, stretched over these steps."""
        return RateSchedule(warm_up=round(self.steps * WARM_UP), until=self.steps)


class Words(Protocol):
    """A host's text encoder, as far as beginning needs it. table: [V, D] of its token embeddings."""

    layout: UNetLayout
    base: str

    @property
    def table(self) -> Tensor: ...
    def tokens(self, text: str) -> Sequence[tuple[int, str]]: ...


def describing(recipe: Recipe, tokenize: Tokenize) -> tuple[WordToken, ...]:
    return word_tokens(recipe.words, recipe.weights, tokenize)


def class_word(recipe: Recipe) -> str:
    """The word that the class is called by: given, or the last of those of the largest weight, as names of things end in what they are."""
    if recipe.class_word.strip():
        return recipe.class_word.strip()
    words = recipe.words.split() or [""]
    weights = recipe.weights or (1.0,) * len(words)
    return max(zip(weights, range(len(words)), words, strict=False))[2]


def begin(models: Words, recipe: Recipe) -> LasrSubject:
    """The subject before the first step; the same on every host. Raises ValueError for words, weights, placeholder or class word that do
    not do."""
    found = describing(recipe, models.tokens)
    token, name = one_token(recipe.placeholder.strip(), models.tokens, "placeholder", "z"), class_word(recipe)
    if recipe.placeholder.strip().lower() in OF_FRAMES:
        raise ValueError(
            f'"{shown(recipe.placeholder.strip(), 40)}" cannot be the placeholder: it stands in every prompt that the subject is learned '
            "with. Choose a rare word, such as z."
        )
    of_class = one_token(name, models.tokens, "class word", "cat")
    if of_class == token:
        raise ValueError(
            f'"{shown(name, 40)}" cannot be both the placeholder and the class word. Choose a rare word as placeholder, such as z.'
        )
    vectors = word_vectors([one.token for one in found], models.table.cpu())  # [N, D]
    generator = torch.Generator().manual_seed(recipe.seed)
    made = embedder_from_words(vectors, [one.weight for one in found], generator, models.layout)
    words = recipe.words.split()
    weights = recipe.weights or (1.0,) * len(words)
    return LasrSubject(
        EmbedderShapes(models.layout, vectors.shape[1], len(found), made.shapes.rank),
        weights_of(made),
        recipe.placeholder.strip(),
        token,
        base=BaseModel(models.base, table_fingerprint(models.table)),
        learning=Learning(tuple(zip(words, map(float, weights), strict=True)), name, 0, recipe.delta),
        vectors=vectors,
    )


Context = Callable[[int, Tensor, Tensor], Tensor]
"""The context of a layer, [B, T, D], asked by a UNet. Given: number of its block among those with cross-attention, in execution order;
what enters that block, on the way up without the skip, [B, C, h, w]; the time vector after its layers [B, T']."""


class Models(Words, Protocol):
    """A host's models, frozen and ready, as learning asks for them.

    device: where they are; kept: share of the picture that is left in a noisy latent at each timestep, squared (alphas_cumprod),
    [timesteps]; half: whether gradients pass through half precision of few exponents, so that the loss needs scaling; checkpointing:
    whether what a layer made is made again for its gradient instead of being kept.
    """

    device: torch.device
    kept: Tensor
    half: bool
    checkpointing: bool

    def ids(self, texts: Sequence[str]) -> Tensor:
        """[texts, T], on the CPU."""

    def embeds(self, ids: Tensor) -> Tensor:
        """Token embeddings without positions: [B, T, D] float32."""

    def encode(self, embeds: Tensor) -> Tensor:
        """contexts.Encode, through which gradients pass."""

    def predict(self, noisy: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        """The noise that the UNet finds: [B, 4, h, w]. Gradients pass to the contexts."""
