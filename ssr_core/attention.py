"""Decoupled cross-attention: the text attention of a UNet layer plus branches that attend to subject tokens.

    out = Attn(q, K_text, V_text) + sum over branches of strength * Attn(q, K_branch, V_branch)

taken before the layer's output projection (arXiv 2312.16272, equation 6; IP-Adapter's form). Knows the formula and nothing
else: not where K and V come from (encoder.py), not which steps or places (schedule.py), not how a host calls it (hosts/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

AttentionFn = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(query [B, L, C], key [B, N, C], value [B, N, C], heads) -> [B, L, C], softmax scale 1/sqrt(C/heads)."""

NULL, SUBJECT = 0, 1
"""Rows of a branch's K and V: what the unconditional side attends to, and what the conditional side attends to."""


@dataclass(frozen=True)
class Branch:
    """Keys and values one layer may attend to besides the text: one row a condition, shared by all its pictures.

    key, value: [rows, N, C]; strength multiplies the branch's output before the layer's output projection.
    weight: [chunks, 1 or pictures, 1 or L, 1] of the branch's output at every picture and position, or None for 1 everywhere.
    """

    key: Tensor
    value: Tensor
    strength: float
    weight: Tensor | None = None


class Span(NamedTuple):
    """Chunks [start, stop) of a batch that one attention call serves with rows [row, row + rows) of a branch."""

    start: int
    stop: int
    row: int
    rows: int


def plan_spans(rows: Sequence[int | None]) -> tuple[Span, ...]:
    """Split a batch of condition chunks into as few attention calls as need no copy of K and V.

    rows: for every chunk the branch row it attends to, or None for none. Equal neighbours share their row (the chunks fold into
    the query axis); ascending neighbours use a slice of rows. [0, 1] -> one call; [0, 1, 1] -> two.
    """
    spans: list[Span] = []
    for chunk, row in enumerate(rows):
        if row is None:
            continue
        last = spans[-1] if spans else None
        if last and last.stop == chunk:
            length = last.stop - last.start
            if last.rows == 1 and last.row == row:
                spans[-1] = Span(last.start, chunk + 1, row, 1)
                continue
            if length == last.rows and row == last.row + last.rows:
                spans[-1] = Span(last.start, chunk + 1, last.row, last.rows + 1)
                continue
        spans.append(Span(chunk, chunk + 1, row, 1))
    return tuple(spans)


def scaled_dot_product(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Plain multi-head attention, for hosts that bring none of their own. [B, L, C], [B, N, C] -> [B, L, C]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))  # [B, H, L | N, d]
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def attend_shared(query: Tensor, key: Tensor, value: Tensor, heads: int, attention: AttentionFn) -> Tensor:
    """Attention of a batch to keys that its pictures share. query: [rows*n, L, C]; key, value: [rows, N, C] -> [rows*n, L, C].

    The pictures of a row are folded into the query axis: rows of an attention do not see each other, so K and V need no
    copy per picture or frame.
    """
    folded = query.reshape(key.shape[0], -1, query.shape[-1])  # [rows, n*L, C]
    return attention(folded, key, value, heads).view_as(query)


def add_branches(
    text: Tensor,
    query: Tensor,
    branches: Sequence[Branch],
    spans: Sequence[Span],
    chunks: int,
    heads: int,
    attention: AttentionFn = scaled_dot_product,
) -> Tensor:
    """The layer's text attention plus all branches. text, query: [chunks*pictures, L, C] -> [chunks*pictures, L, C].

    Contributions are summed first and added once, and a chunk that no span covers keeps its bits.
    """
    if not branches or not spans:
        return text
    pictures = query.shape[0] // chunks
    if len(spans) == 1 and spans[0].stop - spans[0].start == chunks:
        delta, strength = _contribution(query, branches, spans[0], pictures, heads, attention)
        return torch.add(text, delta, alpha=strength)
    out = text.clone()
    for span in spans:
        part = slice(span.start * pictures, span.stop * pictures)
        delta, strength = _contribution(query[part], branches, span, pictures, heads, attention)
        out[part].add_(delta, alpha=strength)
    return out


def _contribution(
    query: Tensor, branches: Sequence[Branch], span: Span, pictures: int, heads: int, attention: AttentionFn
) -> tuple[Tensor, float]:
    """Sum of the branches for the chunks of one span, and a factor still to be applied: [span*pictures, L, C], float."""
    rows = slice(span.row, span.row + span.rows)
    total: Tensor | None = None
    for branch in branches:
        delta = attend_shared(query, branch.key[rows], branch.value[rows], heads, attention)
        if branch.weight is not None:
            delta = _weigh(delta, branch.weight[span.start : span.stop], pictures)
        if len(branches) == 1:
            return delta, branch.strength
        total = delta * branch.strength if total is None else torch.add(total, delta, alpha=branch.strength)
    assert total is not None
    return total, 1.0


def word_shares(query: Tensor, word_keys: Sequence[Tensor], heads: int) -> Tensor:
    """How much of every position belongs to each subject, by how strongly it attends to the subject's words.

    query: [B, L, C]; word_keys: per subject [W, C], the layer's own text keys of its words -> [subjects, B, L, 1], float32, summing
    to 1 over the subjects. A subject's relevance is softmax(k q^T / sqrt(d)) over the positions, averaged over heads and words
    (MIP-Adapter, arXiv 2409.17920, section 3.3; details as in its official code); one without words is equally relevant everywhere.
    """
    q = query.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, L, d]
    relevances = []
    for key in word_keys:
        k = key.unflatten(-1, (heads, -1)).transpose(0, 1)  # [H, W, d]
        logits = (k @ q.transpose(-1, -2)).float() * k.shape[-1] ** -0.5  # [B, H, W, L]
        if key.shape[0] == 0:
            logits = logits.new_zeros(*logits.shape[:2], 1, logits.shape[-1])
        relevances.append(logits.softmax(dim=-1).mean(dim=(1, 2)))  # [B, L]
    # Where no word is relevant at all, all are equally so: 0/0 would blacken the picture.
    relevance = torch.stack(relevances).clamp_min(torch.finfo(torch.float32).tiny)  # [subjects, B, L]
    return (relevance / relevance.sum(dim=0))[..., None]


def _weigh(delta: Tensor, weight: Tensor, pictures: int) -> Tensor:
    """delta: [chunks*pictures, L, C], weight: [chunks, 1 or pictures, 1 or L, 1] -> [chunks*pictures, L, C]."""
    grouped = delta.unflatten(0, (-1, pictures))  # [chunks, pictures, L, C]
    return (grouped * weight).flatten(0, 1)
