"""How several branches share a position: the weights of a layer's branches, made from what that layer itself knows.

Knows the queries, the keys and the text attention of one layer. Multiplying by the weights is the business of attention.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

Combine = Literal["joint", "separate", "by word", "by word, gated"]
"""joint: one softmax over all subjects' tokens (Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py, generate_multi)
separate: one branch each, summed
by word: one branch each, and every position divided among them by how strongly it attends to each subject's words (word_shares)
by word, gated: the same, times what the text attention leaves open to pictures at the position (text_gate), which is learned
"""
COMBINES: tuple[Combine, ...] = ("joint", "separate", "by word")
"""What needs nothing learned."""

_TINY = torch.finfo(torch.float32).tiny
"""What underflowed to zero counts as this much, so that nothing divides by zero: the picture would be black."""


def word_shares(query: Tensor, word_keys: Sequence[Tensor], heads: int, covers: Tensor | None = None) -> Tensor:
    """How much of every position belongs to each subject, by how strongly it attends to the subject's words.

    query: [rows * n, L, C]; word_keys: per subject [rows, W, C], the layer's own text keys of its words; covers: [subjects, rows * n or 1,
    L or 1, 1], where each subject may act at all, None for everywhere -> [subjects, rows * n, L, 1], float32, summing to 1 over the
    subjects where one of them may act. A subject's relevance is softmax(k q^T / sqrt(d)) over the positions, averaged over heads and words
    (arXiv 2409.17920, section 3.3; details as in hqhQAQ/MIP-Adapter, ip_adapter/attention_processor_multi.py). A subject without
    words is equally relevant everywhere.
    """
    # A word whose key is zero attends evenly.
    named = [key if key.shape[1] else key.new_zeros(key.shape[0], 1, key.shape[2]) for key in word_keys]
    keys = torch.cat(named, dim=1).float().unflatten(-1, (heads, -1)).transpose(1, 2)  # [rows, H, W, d]
    q = query.float().unflatten(0, (keys.shape[0], -1)).unflatten(-1, (heads, -1)).transpose(2, 3)  # [rows, n, H, L, d]
    logits = (keys * keys.shape[-1] ** -0.5)[:, None] @ q.transpose(-1, -2)  # [rows, n, H, W, L]
    maps = logits.softmax(dim=-1).mean(dim=2).flatten(0, 1)  # [rows * n, W, L]
    parts = maps.split([key.shape[1] for key in named], dim=1)
    relevance = torch.stack([part.mean(dim=1) for part in parts]).clamp_min(_TINY)[..., None]  # [subjects, rows * n, L, 1]
    if covers is not None:
        relevance = relevance * (covers > 0)
    return relevance / relevance.sum(dim=0).clamp_min(_TINY)


def text_gate(text: Tensor, direction: Tensor) -> Tensor:
    """How open each position is to pictures: sigmoid of the text attention along a learned direction, divided by its mean over positions.

    text: [B, L, C], the layer's text attention before its output projection; direction: [C], zeros for a gate that is 1 everywhere ->
    [B, L, 1] float32 with a mean of 1 over L (hqhQAQ/MIP-Adapter, ip_adapter/attention_processor_multi.py, text_to_weight).
    """
    opened = torch.sigmoid(text.float() @ direction.float()).clamp_min(_TINY)[..., None]  # [B, L, 1]
    return opened / opened.mean(dim=1, keepdim=True)


def words_at(places: Sequence[Sequence[Iterable[int]]], tokens: int, device: torch.device | None = None) -> Tensor:
    """Where words stand in texts: places of each word's tokens, by word and text -> [words, texts, tokens] of 0 and 1, float32. A text
    without the word has none."""
    words = torch.zeros(len(places), len(places[0]) if places else 0, tokens)
    for word, texts in zip(words, places, strict=True):
        for row, own in zip(word, texts, strict=True):
            row[list(own)] = 1.0
    return words.to(device)


def word_attention(query: Tensor, text_key: Tensor, words: Tensor, heads: int) -> Tensor:
    """Probability that a head attends to each word, summed over the word's places, in float32.

    query: [chunks*pictures, L, C]; text_key: [chunks or chunks*pictures, T, C]; words: [words, chunks, T] (words_at) ->
    [words, chunks, pictures, L, heads]. Needs all T logits of a position: a probability is one of them over the sum of all.
    """
    chunks = words.shape[1]
    q = query.unflatten(0, (chunks, -1)).unflatten(-1, (heads, -1)).transpose(2, 3)  # [chunks, pictures, H, L, d]
    k = text_key.unflatten(0, (chunks, -1)).unflatten(-1, (heads, -1)).transpose(2, 3)  # [chunks, 1 or pictures, H, T, d]
    logits = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()  # [chunks, pictures, H, L, T]
    attends = logits.softmax(dim=-1) @ words.permute(1, 2, 0)[:, None, None].to(logits)  # [chunks, pictures, H, L, words]
    return attends.permute(4, 0, 1, 3, 2)


def token_gate(query: Tensor, text_key: Tensor, words: Tensor, heads: int) -> Tensor:
    """How strongly every head attends to each word at every position, as a share of the largest such value in the same picture, over heads
    and positions: word_attention -> [words, chunks, pictures, L, heads] in 0..1, float32 (arXiv 2302.13848, section 3.2; csyxwei/ELITE,
    inference_local.py, inj_forward_crossattention).

    The authors divide by the largest of the whole batch, so that samples change each other (elite.md, E1); of one sample that is the
    same. A chunk without the word gets zeros.
    """
    attends = word_attention(query, text_key, words, heads)
    return attends / attends.amax(dim=(3, 4), keepdim=True).clamp_min(_TINY)
