"""Prompts with placeholders -> the text context of every layer.

Every layer reads an encoding of the prompt of its own, in which its own vectors stand for the placeholders: a static one, the same at
every step (S), and an adaptive one, made in the middle of the UNet (A). They are mixed where the text encoder is done, not before.
Knows neither text encoder nor UNet: a host gives a function that encodes rows of token embeddings, and what enters each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ... import finite
from ...shown import shown
from .embedder import SubjectEmbedder, pooled_features

Encode = Callable[[Tensor], Tensor]
"""Token embeddings without positions [R, T, D] -> what cross-attentions read [R, T, D']: the text encoder's last hidden states after its
final norm, or the layer that the user's CLIP skip names; with the user's LoRAs. Rows do not see each other."""

ALPHA = 0.5
"""Share of the adaptive context (lasr_emb_weight in askerlee/AdaFace-dev)."""
CHUNK = 77
"""Tokens that the text encoder sees at once; longer prompts are several of these."""

ORDINARY = 4
"""Letters from which a placeholder looks like an ordinary word."""


class Learned(NamedTuple):
    """A learned subject ready to run: its embedders, the token that stands for it, and what multiplies both its vectors (subj_scale)."""

    embedder: SubjectEmbedder
    token: int
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts, one for each row, with subjects' places marked.

    embeds: [B, T, D], token embeddings without positions; T is a multiple of `chunk`
    marks: [S, B, T], True where a subject's placeholder stands
    marked: [M], the rows in which any stands; the others' contexts are the same in all layers
    weights, neutral: of prompts with weights, "(z:1.2)": [B, T], one for each token, and [T, D'], the empty prompt's encoding from which
    they lead away; None where all weights are 1
    """

    embeds: Tensor
    marks: Tensor
    marked: Tensor
    chunk: int = CHUNK
    weights: Tensor | None = None
    neutral: Tensor | None = None

    @property
    def all_marked(self) -> bool:
        return len(self.marked) == len(self.embeds)

    def to(self, device: torch.device) -> Prompts:
        return replace(
            self,
            embeds=self.embeds.to(device),
            marks=self.marks.to(device),
            marked=self.marked.to(device),
            weights=None if self.weights is None else self.weights.to(device),
            neutral=None if self.neutral is None else self.neutral.to(device),
        )

    def rows(self, indices: Tensor) -> Prompts:
        """Some of the prompts, in another order or several times over, such as those of a UNet batch. indices: [B'].

        Waits for the device, so it is asked once for each layout of a batch.
        """
        place, indices = self.embeds.device, indices.cpu()
        has = torch.isin(indices, self.marked.cpu())
        chosen = indices.to(place)
        return replace(
            self,
            embeds=self.embeds[chosen],
            marks=self.marks[:, chosen],
            marked=has.nonzero().flatten().to(place),
            weights=None if self.weights is None else self.weights[chosen],
        )

    def encoded(self, encode: Encode, embeds: Tensor, rows: Tensor | slice) -> Tensor:
        """Encodings of embeddings that stand in for those of some rows: each chunk by itself, all in one batch, with the rows' weights.

        embeds: [R, T, D] or, with several for each row, [R, L, T, D] -> the same with D'.
        """
        flat = encode(embeds.reshape(-1, self.chunk, embeds.shape[-1]))  # [R*L*chunks, chunk, D']
        states = flat.reshape(*embeds.shape[:-1], flat.shape[-1])
        if self.weights is None or self.neutral is None:
            return states
        weights = self.weights[rows].to(states.dtype)[..., None]  # [R, T, 1]
        weights = weights if states.ndim == weights.ndim else weights[:, None]
        neutral = self.neutral.to(states.dtype)
        return torch.where(weights == 1, states, neutral + (states - neutral) * weights)


def prompts_of(ids: Tensor, embeds: Tensor, tokens: Sequence[int], chunk: int = CHUNK) -> Prompts:
    """ids: [B, T], what each token is, any negative number for what is no token of the vocabulary; embeds: [B, T, D]; tokens: of the
    subjects' placeholders. A placeholder is known by its token wherever it stands, so an ordinary word of that token counts too.
    """
    if ids.shape != embeds.shape[:2] or ids.shape[1] % chunk:
        raise ValueError(
            f"Prompts of {tuple(ids.shape)} token ids and {tuple(embeds.shape)} embeddings do not belong together; expected rows of a "
            f"multiple of {chunk} tokens in both. Encode the prompt again."
        )
    marks = torch.stack([ids == token for token in tokens]) if tokens else ids.new_zeros(0, *ids.shape, dtype=torch.bool)
    marked = marks.any(dim=0).any(dim=1).nonzero().flatten()
    place = embeds.device
    return Prompts(embeds, marks.to(place), marked.to(place), chunk)


def occurrences(ids: Tensor, tokens: Sequence[int]) -> tuple[int, ...]:
    """How often each placeholder stands in the prompts. ids: [..., T]."""
    return tuple(int((ids == token).sum()) for token in tokens)


def check_named(ids: Tensor, tokens: Sequence[int], placeholders: Sequence[str], text: str) -> None:
    """Refuse a prompt in which a subject's placeholder does not stand. Raises ValueError that names all of those."""
    counts = occurrences(ids, tokens)
    if absent := [name for name, count in zip(placeholders, counts, strict=True) if not count]:
        names = ", ".join(f'"{shown(name, 40)}"' for name in absent)
        raise ValueError(
            f'The prompt "{shown(text, 100)}" does not have the placeholder {names}, so that subject would not be drawn. Write it where '
            f'the subject belongs, as in "a photo of a {shown(absent[0], 40)}", or leave the subject out.'
        )


def doubts(pieces: Sequence[str], ids: Sequence[int], tokens: Mapping[str, int]) -> list[str]:
    """Where a placeholder may be meant as a word, in sentences. pieces: the prompt's byte pairs, the start token first, where </w> marks a
    word's last; ids: their tokens; tokens: of the placeholders, by name.
    """
    found = []
    for name, token in tokens.items():
        named = f'the placeholder "{shown(name, 40)}"'
        places = [place for place, one in enumerate(ids) if one == token]
        for place in places:
            first = place
            while first > 1 and not pieces[first - 1].endswith("</w>") and not pieces[first - 1].startswith("<|"):
                first -= 1
            if first < place:
                word = "".join(pieces[first : place + 1]).removesuffix("</w>")
                found.append(
                    f'{named} is the end of the word "{shown(word, 40)}", where the subject is drawn too. Choose another word.'
                )
        if len(places) > 1:
            found.append(
                f"{named} stands {len(places)} times, and the subject is drawn for each. Choose another if one is an ordinary word."
            )
        if len(name) >= ORDINARY and name.isalpha():
            found.append(
                f"{named} looks like an ordinary word, which it replaces wherever it stands. A rare one such as z is safer."
            )
    return found


def substituted(embeds: Tensor, marks: Sequence[Tensor] | Tensor, vectors: Sequence[Tensor]) -> Tensor:
    """Token embeddings with each subject's vector wherever its placeholder stands.

    embeds: [..., T, D]; marks: for each subject [..., T]; vectors: for each subject [..., D] -> [..., T, D].
    """
    for mark, vector in zip(marks, vectors, strict=True):
        embeds = torch.where(mark[..., None], vector[..., None, :].to(embeds.dtype), embeds)
    return embeds


def static_contexts(encode: Encode, prompts: Prompts, subjects: Sequence[Learned]) -> Tensor:
    """S, the static context of every prompt and layer: [B, L, T, D'], where L is 1 if no prompt has a placeholder.

    Prompts with a placeholder take a row of the text encoder for each layer, all in one batch, row = prompt * L + layer. The others take
    one row, which gradients do not pass, so that they share no batch.
    """
    marked = prompts.marked
    plain = torch.ones(len(prompts.embeds), dtype=torch.bool, device=prompts.embeds.device)
    plain[marked] = False
    contexts = None if prompts.all_marked else prompts.encoded(encode, prompts.embeds[plain], plain)[:, None]  # [B-M, 1, T, D']
    if not len(marked):
        assert contexts is not None
        return contexts
    vectors = [subject.embedder.static() * subject.strength for subject in subjects]  # [L, D] each
    embeds = substituted(prompts.embeds[marked][:, None], prompts.marks[:, marked][:, :, None], vectors)  # [M, L, T, D]
    layered = prompts.encoded(encode, embeds, marked)  # [M, L, T, D']
    if contexts is None:
        return layered
    whole = layered.new_empty(len(plain), *layered.shape[1:])
    return whole.index_put((plain,), contexts.expand(-1, layered.shape[1], -1, -1)).index_copy(0, marked, layered)


def of_layer(static: Tensor, layer: int) -> Tensor:
    """S of one layer: [B, L, T, D'] -> [B, T, D']; an L of 1 serves all layers."""
    return static[:, layer if static.shape[1] > 1 else 0]


def adaptive_vectors(subjects: Sequence[Learned], layer: int, pooled: Tensor, time: Tensor) -> list[Tensor]:
    """Each subject's vector of a layer for every row, from that row's own picture. pooled: [M, C]; time: [M, T] -> [M, D] each."""
    return [subject.embedder.lasr(layer, pooled, time) * subject.strength for subject in subjects]


def adaptive_context(encode: Encode, prompts: Prompts, vectors: Sequence[Tensor]) -> Tensor:
    """A of one layer, for the rows that have a placeholder only: [M, T, D']. vectors: for each subject [M, D]."""
    rows = slice(None) if prompts.all_marked else prompts.marked
    return prompts.encoded(encode, substituted(prompts.embeds[rows], prompts.marks[:, rows], vectors), rows)


def mixed(static: Tensor, adaptive: Tensor, marked: Tensor, alpha: float | Tensor) -> Tensor:
    """(1 - alpha) S + alpha A in the rows that have a placeholder, S in the others.

    static: [B, T, D'], of one layer; adaptive: [M, T, D']; marked: [M].
    """
    adaptive = adaptive.to(static.dtype)
    if len(marked) == len(static):
        return (1 - alpha) * static + alpha * adaptive
    return static.index_copy(0, marked, (1 - alpha) * static[marked] + alpha * adaptive)


def layer_context(
    encode: Encode,
    prompts: Prompts,
    static: Tensor,
    subjects: Sequence[Learned],
    layer: int,
    features: Tensor,
    time: Tensor,
    alpha: float = ALPHA,
) -> Tensor:
    """What keys and values of one layer are made from in one UNet call: [B, T, D'].

    static: [B, T, D'], S of this layer; features: [B, C, h, w], what enters the layer's block, on the way up without the skip;
    time: [B, T']. Rows of one batch are independent. Where no row has a placeholder, or alpha is zero, it is S itself, and the text
    encoder does not run.
    """
    if not alpha or not len(prompts.marked):
        return static
    if not prompts.all_marked:
        features, time = features[prompts.marked], time[prompts.marked]
    vectors = adaptive_vectors(subjects, layer, pooled_features(features), time)
    return mixed(static, adaptive_context(encode, prompts, vectors), prompts.marked, alpha)


def checked_alpha(alpha: float) -> float:
    """Raises ValueError for what is no share."""
    return finite.finite(alpha, "alpha (the share of the adaptive context)", 0.0, 1.0)
