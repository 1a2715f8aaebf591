"""What an Apply node hangs on a MODEL: immutable, shared by every clone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from ...layout import UNetLayout
from ...schedule import StepSchedule

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""Per layer, in checkpoint order."""


class Part(NamedTuple):
    """A subject's share of an applied part: tokens [first, stop) of one of its branches."""

    query: str
    branch: int
    first: int
    stop: int


@dataclass(frozen=True, eq=False)
class Applied:
    """One Apply node's part.

    branches: K and V of every layer in checkpoint order, [2, N, C] each, row 0 unconditional
    layer_strengths: one multiplier per layer in the same order
    region: [frames, H, W] in 0..1 over the output picture, or None for everywhere
    frame_strengths: a multiplier per picture of the batch, () for 1 everywhere; a longer batch holds the last one
    word_embeds: per branch [W, D] if positions are shared out by word, else ()
    parts: which tokens of which branch are whose
    """

    layout: UNetLayout
    branches: tuple[KeysValues, ...]
    strength: float
    layer_strengths: tuple[float, ...]
    schedule: StepSchedule = field(default_factory=StepSchedule)
    region: Tensor | None = None
    frame_strengths: tuple[float, ...] = ()
    word_embeds: tuple[Tensor, ...] = ()
    parts: tuple[Part, ...] = ()
