"""How strongly every head attends to the subject's word at every place, and the branch of the local tokens that this gates.

    out = softmax(q K_text) V_text + strength * gate * softmax(q K_local) V_local

taken before the layer's output projection (arXiv 2302.13848, section 3.2; csyxwei/ELITE, inference_local.py, inj_forward_crossattention).
A layer's text keys are those of the global projections. Local tokens outside the mask are zero vectors and stay in the softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ...attention import Branch


def word_at(places: Sequence[Iterable[int]], tokens: int, device: torch.device | None = None) -> Tensor:
    """Where the word stands in each chunk's text: places of its tokens -> [chunks, tokens] of 0 and 1. A chunk without it has none."""
    word = torch.zeros(len(places), tokens)
    for row, own in zip(word, places, strict=True):
        row[list(own)] = 1.0
    return word.to(device)


def word_attention(query: Tensor, text_key: Tensor, word: Tensor, heads: int) -> Tensor:
    """Probability that a head attends to the word, summed over the word's places, in float32.

    query: [chunks*pictures, L, C]; text_key: [chunks or chunks*pictures, T, C]; word: [chunks, T] (word_at) ->
    [chunks, pictures, L, heads]. Needs all T logits of a place: a probability is one of them over the sum of all.
    """
    chunks = word.shape[0]
    q = query.unflatten(0, (chunks, -1)).unflatten(-1, (heads, -1)).transpose(2, 3)  # [chunks, pictures, H, L, d]
    k = text_key.unflatten(0, (chunks, -1)).unflatten(-1, (heads, -1)).transpose(2, 3)  # [chunks, 1 or pictures, H, T, d]
    logits = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()  # [chunks, pictures, H, L, T]
    attends = logits.softmax(dim=-1) @ word.to(logits)[:, None, None, :, None]  # [chunks, pictures, H, L, 1]
    return attends[..., 0].transpose(2, 3)


def token_gate(query: Tensor, text_key: Tensor, word: Tensor, heads: int) -> Tensor:
    """word_attention divided by its largest value in the same picture, over heads and places: [chunks, pictures, L, heads] in 0..1.

    The authors divide by the largest of the whole batch, so that samples change each other (elite.md, E1); of one sample that is the
    same. A chunk without the word gets zeros.
    """
    attends = word_attention(query, text_key, word, heads)
    largest = attends.amax(dim=(2, 3), keepdim=True)  # [chunks, pictures, 1, 1]
    return attends / largest.clamp_min(torch.finfo(attends.dtype).tiny)


def local_branch(key: Tensor, value: Tensor, gate: Tensor, strength: float) -> Branch:
    """The local tokens as a layer attends to them. key, value: [rows, N, C] (LocalMapper.project); gate: token_gate's, times whatever else
    weighs the places; strength: lambda, 1 in training, 0.8 in the authors' scripts, 0.6 in their demo (elite.md, 6)."""
    return Branch(key, value, strength, gate.to(value.dtype))
