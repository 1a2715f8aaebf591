"""What a method gives a UNet to attend to: tokens for both sides of the guidance, and how keys and values are made of them.

A method fills these in; its host projects them and hangs the keys and values on a model (attention.Branch).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class BranchInput(NamedTuple):
    """What one branch's K and V are projected from, in rows attention.NULL and attention.SUBJECT.

    tokens: [2, N, D]; key_scale, value_scale: [2, N, 1]; word_embeds: [1 or 2, W, D], the text embeddings, for both sides or for each, of
    the words that decide the branch's share of a position, or None if positions are not shared.
    """

    tokens: Tensor
    key_scale: Tensor
    value_scale: Tensor
    word_embeds: Tensor | None = None

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """What has a row for each side: tokens, key_scale, value_scale."""
        return self.tokens, self.key_scale, self.value_scale


def joined(branches: Sequence[BranchInput]) -> BranchInput:
    """One branch of all their tokens, which then share one softmax."""
    return BranchInput(*(torch.cat(parts, dim=1) for parts in zip(*(branch.rows for branch in branches), strict=True)))


def check_representable(keys_values: Iterable[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
    """Refuse keys and values that are not finite in the type that the UNet computes in: the picture would come out black."""
    if not all(bool(side.isfinite().all()) for pair in keys_values for side in pair):
        raise ValueError(
            f"The subject's keys or values are beyond {str(dtype).removeprefix('torch.')}, in which this model computes. Lower the "
            "subjects' own strengths, or let the model compute in bfloat16 or float32."
        )
