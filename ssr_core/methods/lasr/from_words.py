"""A subject before it is learned: the embedders' first values, out of words that describe it.

Knows tokens and their embeddings as a host gives them; no tokenizer and no text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import finite
from ...layout import SD15, UNetLayout
from ...shown import shown
from .embedder import MOST_RANK, AdaptiveEmbedder, EmbedderShapes, StaticEmbedder, SubjectEmbedder

Tokenize = Callable[[str], Sequence[tuple[int, str]]]
"""A text's tokens, each with its piece as the vocabulary spells it, without the start and end tokens."""

RANK_TO_WORDS = 2
"""Basis vectors for each word (rank_token_ratio in askerlee/AdaFace-dev, configs of LASR)."""
WORD_SPREAD, OTHER_SPREAD = 0.02, 0.1
"""Standard deviation over the layers of the weights of words' vectors, and of the others."""
OTHERS_SHARE = 0.4
"""Divided by the number of words: the weight that all layers give to each of the other vectors at first."""
BASIS_NORM = 0.25
MOST_WORD_LETTERS = 200
MOST_WEIGHT = 100.0


class WordToken(NamedTuple):
    """A token of a describing word, and the word's weight."""

    token: int
    weight: float


def one_token(text: str, tokenize: Tokenize, what: str, example: str) -> int:
    """The token of a text that must be a single one: a placeholder, a class word. Raises ValueError that names what it splits into."""
    tokens = tokenize(text) if len(text) <= MOST_WORD_LETTERS else ()
    if len(tokens) != 1:
        pieces = shown(" ".join(piece.removesuffix("</w>") for _, piece in tokens) or "none", 100)
        raise ValueError(
            f'The {what} "{shown(text, 60)}" must be one token of the text encoder, found {len(tokens)} ({pieces}). Choose a short one, '
            f'such as "{example}".'
        )
    return tokens[0][0]


def word_tokens(text: str, weights: Sequence[float], tokenize: Tokenize, ratio: float = RANK_TO_WORDS) -> tuple[WordToken, ...]:
    """The tokens of describing words. weights: one for each word, or none for equal ones; a word that splits gives its weight to each
    of its tokens.

    Raises ValueError for no word, too many, and weights that do not fit.
    """
    words = text.split()
    if not words:
        raise ValueError('There are no words that describe the subject. Give one to seven, such as "tabby cat".')
    if weights and len(weights) != len(words):
        raise ValueError(
            f'{len(weights)} weights for {len(words)} words of "{shown(text, 60)}". Give one weight for each word, or none.'
        )
    if longest := next((word for word in words if len(word) > MOST_WORD_LETTERS), None):
        raise ValueError(f"The word {shown(longest, 40)} is too long. Describe the subject with a few common words.")
    checked = [finite.finite(weight, "The weight of a word", 0.0, MOST_WEIGHT) for weight in weights or [1.0] * len(words)]
    if not sum(checked):
        raise ValueError("All words have a weight of zero. Give the word for what the subject is, such as cat, the largest.")
    found = tuple(WordToken(token, weight) for word, weight in zip(words, checked, strict=True) for token, _ in tokenize(word))
    if not found or rank_of(len(found), ratio) > MOST_RANK:
        raise ValueError(
            f'"{shown(text, 60)}" becomes {len(found)} tokens of the text encoder; there is room for 1 to '
            f"{int((MOST_RANK - 1) / ratio)}. Use fewer or more common words."
        )
    return found


def rank_of(words: int, ratio: float = RANK_TO_WORDS, negatives: int = 0) -> int:
    """Of the basis for this many tokens. Halves are rounded to the even number, as Python does."""
    return round(ratio * words + negatives + 1)


def word_vectors(tokens: Sequence[int], token_embedding: Tensor, position_embedding: Tensor | None = None) -> Tensor:
    """[N, D] in float32: the tokens' rows of the text encoder's table [V, D].

    position_embedding: [positions, D], added from position 0 on, as the authors do; the placeholder gets its own position on top, later.
    """
    vectors = token_embedding[list(tokens)].detach().float()
    return vectors if position_embedding is None else vectors + position_embedding[: len(tokens)].detach().float()


def embedder_from_words(
    vectors: Tensor,
    weights: Sequence[float],
    generator: torch.Generator,
    layout: UNetLayout = SD15,
    ratio: float = RANK_TO_WORDS,
    negatives: Tensor | None = None,
) -> SubjectEmbedder:
    """Both embedders before the first step (__init__ of both in askerlee/AdaFace-dev, ldm/modules/embedding_manager.py).

    vectors: [N, D]; weights: N numbers; generator: on the CPU, so that every host starts alike; negatives: [n, D] of words that the subject
    is not, off by default, as they make pictures worse.
    """
    count, width = vectors.shape
    away = 0 if negatives is None else len(negatives)
    shapes = EmbedderShapes(layout, width, count, rank_of(count, ratio, away))
    embedder = SubjectEmbedder(shapes)
    vectors = vectors.detach().float().cpu()
    with torch.no_grad():
        _start_static(embedder.static, vectors, torch.tensor(list(weights), dtype=torch.float32), generator)
        if negatives is not None:
            embedder.static.basis_vecs[:away] = -negatives.detach().float().cpu()
        _start_adaptive(embedder.lasr, vectors, generator)
    return embedder


def _start_static(static: StaticEmbedder, vectors: Tensor, weights: Tensor, generator: torch.Generator) -> None:
    count = len(vectors)
    _start_basis(static, vectors, generator)
    static.basis_comm_weights[0, :count] = weights / weights.sum()
    static.basis_comm_weights[0, count:] = OTHERS_SHARE / count
    static.basis_rand_weights[:, :count].normal_(0, WORD_SPREAD, generator=generator)
    static.basis_rand_weights[:, count:].normal_(0, OTHER_SPREAD, generator=generator)


def _start_adaptive(adaptive: AdaptiveEmbedder, vectors: Tensor, generator: torch.Generator) -> None:
    _start_basis(adaptive, vectors, generator)
    for layer in adaptive.layer_maps:
        assert isinstance(layer, nn.Linear)
        bound = layer.in_features**-0.5  # torch's own first values, but from this generator
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)


def _start_basis(embedder: StaticEmbedder | AdaptiveEmbedder, vectors: Tensor, generator: torch.Generator) -> None:
    """Words' vectors, random rows of one norm, and a last row that is learned from zero."""
    embedder.pre_vecs.copy_(vectors)
    rows = torch.randn(embedder.basis_vecs.shape, generator=generator)
    embedder.basis_vecs.copy_(rows / rows.norm(dim=1, keepdim=True) * BASIS_NORM)
    embedder.basis_vecs[-1] = 0
