"""Decoupled cross-attention: the text attention of a UNet layer plus branches that attend to subject tokens.

    out = Attn(q, K_text, V_text) + sum over branches of strength * Attn(q, K_branch, V_branch)

taken before the layer's output projection (arXiv 2312.16272, equation 6; IP-Adapter's form). Knows the formula and nothing
else: not where K and V come from, not which steps or places (schedule.py), not how branches share a position (merge.py), not how a
host calls it (hosts/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

AttentionFn = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(query [B, L, C], key [B, N, C], value [B, N, C], heads) -> [B, L, C], softmax scale 1/sqrt(C/heads)."""

NULL, SUBJECT = 0, 1
"""The unconditional and the conditional side of the guidance; also the rows of a branch's K and V that they attend to."""


@dataclass(frozen=True)
class Branch:
    """Keys and values one layer may attend to besides the text. All pictures of a chunk share a row.

    key, value: [rows, N, C]; strength multiplies the branch's output before the layer's output projection.
    weight: [chunks, 1 or pictures, 1 or L, 1 or heads] multiplies the output at every picture, position and head; None for 1 everywhere.
    where: [M], the only positions that are computed, numbered through all pictures of a chunk (picture * L + position); the weight is 0
    at all others. None for all positions.
    there: [rows, N], which tokens each row has; the others only fill it up to N, and nothing attends to them. None for all tokens. Only
    with an attention that takes it as its mask, as scaled_dot_product does.
    """

    key: Tensor
    value: Tensor
    strength: float
    weight: Tensor | None = None
    where: Tensor | None = None
    there: Tensor | None = None


class Span(NamedTuple):
    """Chunks [start, stop) of a batch that one attention call serves with rows [row, row + rows) of a branch."""

    start: int
    stop: int
    row: int
    rows: int


def plan_spans(rows: Sequence[int | None]) -> tuple[Span, ...]:
    """Split a batch of chunks into as few attention calls as possible without copying K and V.

    rows: for every chunk the row it attends to, or None for none. Equal neighbours share their row (the chunks fold into
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


def scaled_dot_product(query: Tensor, key: Tensor, value: Tensor, heads: int, there: Tensor | None = None) -> Tensor:
    """Plain multi-head attention, for hosts without one of their own. [B, L, C], [B, N, C] -> [B, L, C].

    there: [B, N], True where there is a token to attend to.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))  # [B, H, L | N, d]
    mask = None if there is None else there[:, None, None]  # [B, 1, 1, N]
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


def attend_shared(query: Tensor, key: Tensor, value: Tensor, heads: int, attention: AttentionFn) -> Tensor:
    """Attention of a batch to keys that its pictures share. query: [rows*n, L, C]; key, value: [rows, N, C] -> [rows*n, L, C].

    The pictures of a row are folded into the query axis: queries do not see each other, so K and V need no copy per picture or
    frame.
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

    Contributions of whole branches are summed first and added once; a chunk that no span covers, and a position where no branch
    acts, keep their bits.
    """
    pictures = query.shape[0] // chunks
    whole = [branch for branch in branches if branch.where is None]
    parts = [branch for branch in branches if branch.where is not None and len(branch.where)]
    if not spans or not (whole or parts):
        return text
    if whole and spans[0].stop - spans[0].start == chunks:
        delta, strength = _contribution(query, whole, spans[0], pictures, heads, attention)
        out = torch.add(text, delta, alpha=strength)
    else:
        out = text.clone()
        for span in spans if whole else ():
            part = slice(span.start * pictures, span.stop * pictures)
            delta, strength = _contribution(query[part], whole, span, pictures, heads, attention)
            out[part].add_(delta, alpha=strength)
    for span in spans:
        part = slice(span.start * pictures, span.stop * pictures)
        for branch in parts:
            _add_where(out[part], query[part], branch, span, heads, attention)
    return out


def _contribution(
    query: Tensor, branches: Sequence[Branch], span: Span, pictures: int, heads: int, attention: AttentionFn
) -> tuple[Tensor, float]:
    """Sum of the branches for the chunks of one span, and a factor still to be applied: [span*pictures, L, C], float."""
    rows = slice(span.row, span.row + span.rows)
    total: Tensor | None = None
    for branch in branches:
        delta = attend_shared(query, branch.key[rows], branch.value[rows], heads, _masked(attention, branch, rows))
        if branch.weight is not None:
            grouped = delta.unflatten(0, (-1, pictures))  # [span, pictures, L, C]
            delta = _weigh(grouped, branch.weight[span.start : span.stop]).flatten(0, 1)
        if len(branches) == 1:
            return delta, branch.strength
        total = delta * branch.strength if total is None else torch.add(total, delta, alpha=branch.strength)
    assert total is not None
    return total, 1.0


def _add_where(out: Tensor, query: Tensor, branch: Branch, span: Span, heads: int, attention: AttentionFn) -> None:
    """Add a branch to the chunks of one span, in place, at the positions where it acts. out, query: [span*pictures, L, C]."""
    assert branch.where is not None
    count, rows = span.stop - span.start, slice(span.row, span.row + span.rows)
    folded = query.reshape(count, -1, query.shape[-1])  # [span, pictures*L, C]
    chosen = folded.index_select(1, branch.where)  # [span, M, C]
    delta = attend_shared(chosen, branch.key[rows], branch.value[rows], heads, _masked(attention, branch, rows))
    if branch.weight is not None:
        weight = branch.weight[span.start : span.stop]  # [span, 1 or pictures, 1 or L, 1 or heads]
        spread = weight.expand(-1, query.shape[0] // count, query.shape[1], -1).flatten(1, 2)
        delta = _weigh(delta, spread.index_select(1, branch.where))
    out.view_as(folded).index_add_(1, branch.where, delta, alpha=branch.strength)


def _masked(attention: Callable[..., Tensor], branch: Branch, rows: slice) -> AttentionFn:
    return attention if branch.there is None else partial(attention, there=branch.there[rows])


def _weigh(delta: Tensor, weight: Tensor) -> Tensor:
    """delta [..., C] times weight [..., 1 or heads]; each head's part of C has a weight of its own."""
    return (delta.unflatten(-1, (weight.shape[-1], -1)) * weight[..., None]).flatten(-2)
