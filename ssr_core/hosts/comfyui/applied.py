"""What an Apply node hangs on a MODEL: immutable, shared by every clone."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True, eq=False)
class Applied:
    """One Apply node's part in a MODEL.

    branches: K and V of every layer in checkpoint order, [2, N, C] each with rows NULL and SUBJECT; manner: how they act
    word_embeds: [W, D] for each branch if positions are divided by word, else ()
    parts: which tokens of which branch are which subject's
    pictures: for each branch multipliers of its own for the pictures of the batch, in place of the manner's; () if all have the manner's
    """

    layout: UNetLayout
    branches: tuple[KeysValues, ...]
    manner: Manner = field(default_factory=Manner)
    word_embeds: tuple[Tensor, ...] = ()
    parts: tuple[Part, ...] = ()
    pictures: tuple[tuple[float, ...], ...] = ()


class Attended(NamedTuple):
    """What an applied part attends to in one layer of a call. first: number of its first subject among those of all applied parts."""

    applied: Applied
    first: int
    branches: tuple[Branch, ...]
