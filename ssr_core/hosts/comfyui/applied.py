"""What an Apply node hangs on a MODEL: immutable, shared by every clone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from ...attention import Branch
from ...layout import UNetLayout
from ...schedule import Manner

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""K and V of every layer, in checkpoint order."""


class Part(NamedTuple):
    """A subject's share of an applied part: tokens [first, stop) of one of its branches."""

    query: str
    branch: int
    first: int
    stop: int


def parts_of(named: Sequence[tuple[str, int]], joint: bool) -> tuple[Part, ...]:
    """Of things with a query and a number of tokens each: in one branch, or in a branch each."""
    firsts = [0, *accumulate(count for _, count in named)]
    if joint:
        return tuple(Part(query, 0, first, first + count) for (query, count), first in zip(named, firsts, strict=False))
    return tuple(Part(query, number, 0, count) for number, (query, count) in enumerate(named))


@dataclass(frozen=True, eq=False)
class Applied:
    """One Apply node's part in a MODEL.

    branches: K and V of every layer in checkpoint order, [2, N, C] each with rows NULL and SUBJECT, or [1, N, C] of the subject's side
    where the other attends to none
    manner: how they act; places: where each branch may act, as its manner's region and pictures, () if all act where `manner` says
    word_embeds: [1 or 2, W, D] for each branch, for both sides or for each, if positions are divided by word, else ()
    gates: [C] for every layer, the direction of its text_gate, or () for none
    words: for each branch, of which subject of the prompt's riders the word is whose attention gates it (token_gate), or () for none;
    a branch acts in no chunk whose text does not say its word
    parts: which tokens of which branch are which subject's
    maker: of prompts that say its subjects (words.py), by the fingerprint of the weights that made them; "" where it knows no prompt
    """

    layout: UNetLayout
    branches: tuple[KeysValues, ...]
    manner: Manner = field(default_factory=Manner)
    places: tuple[Manner, ...] = ()
    word_embeds: tuple[Tensor, ...] = ()
    gates: tuple[Tensor, ...] = ()
    words: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    maker: str = ""

    def place_of(self, branch: int) -> Manner:
        """Whose region and pictures say where a branch acts."""
        return self.places[branch] if self.places else self.manner


class Attended(NamedTuple):
    """What an applied part attends to in one layer of a call. first: number of its first subject among those of all applied parts; rows:
    of every branch, which row of K and V each chunk attends to, None for none."""

    applied: Applied
    first: int
    branches: tuple[Branch, ...]
    rows: tuple[tuple[int | None, ...], ...]
