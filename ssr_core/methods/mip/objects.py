"""Objects: what an adapter took from pictures of one thing with a name, as users pass them along, combine, save and share them.

Frozen data, no behaviour that touches a model. How several objects become one or several branches is here too (branch_inputs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ... import finite
from ...branches import BranchInput, joined
from ...choices import choice
from ...merge import COMBINES, Combine
from ...shown import shown

MERGES: tuple[Combine, ...] = ("by word, gated", *reversed(COMBINES))
"""How objects share the positions of a picture; the first is the method's own."""

MOST_OBJECTS = 64
"""In one set; what is drawn of more than a handful nobody recognises."""
MOST_PICTURES = 64
"""Of one object: their tokens are averaged, and more of them make no other average."""
MOST_NAME_TOKENS = 20
"""Of a name: it tells a place in the picture, and a description does that no better."""
MOST_NAME_LETTERS = 1_000
PICTURES_SHOWN = 4
"""Pictures of an object that it carries along to be looked at."""


@dataclass(frozen=True, eq=False)
class Name:
    """An object's name as the text encoders see it: the rows of its tokens, and the same rows of the encoding of nothing.

    embeds, null_embeds: [W, D]. On the unconditional side they are end and padding tokens (mip.md, section 4). Raises ValueError for names
    that are empty or too long.
    """

    text: str
    embeds: Tensor
    null_embeds: Tensor

    def __post_init__(self) -> None:
        check_name(self.text)
        check_length(self.text, self.embeds.shape[0])


def check_name(text: str) -> None:
    """Refuse a name that says nothing, or far too much."""
    if not text.strip():
        raise ValueError(
            'The object has no name. Say what it is in a word or two, such as "cat" or "red jacket": places are found by it.'
        )
    if len(text) > MOST_NAME_LETTERS:
        raise ValueError(
            f"The name has {len(text):,} characters; at most {MOST_NAME_LETTERS:,} are taken. A word or two is enough."
        )


def check_length(text: str, tokens: int) -> None:
    if not 1 <= tokens <= MOST_NAME_TOKENS:
        raise ValueError(
            f'The name "{shown(text, 60)}" has {tokens} tokens; expected 1 to {MOST_NAME_TOKENS}. Say what the object is in a word or two.'
        )


@dataclass(frozen=True, eq=False)
class MIPObject:
    """One object. T tokens, W tokens of its name.

    tokens, null_tokens: [T, D]; what the sides SUBJECT and NULL attend to
    name_embeds, null_name_embeds: [W, D]; by which each side finds the object's places
    pictures: uint8 [K, size, size, 3]; what the vision model saw of its first pictures; count: of how many pictures it was made
    adapter: fingerprint of the adapter that made it
    strength: the object's own among several
    region: uint8 [H, W], where in the new picture it may act, 255 for fully; None for everywhere
    """

    tokens: Tensor
    null_tokens: Tensor
    name: str
    name_embeds: Tensor
    null_name_embeds: Tensor
    pictures: Tensor
    count: int
    adapter: str
    strength: float = 1.0
    region: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "strength", finite.strength(self.strength, f'The strength of the object "{shown(self.name, 40)}"')
        )

    def scaled(self, factor: float) -> MIPObject:
        return replace(self, strength=self.strength * factor)


ObjectSet = tuple[MIPObject, ...]


def together(*sets: ObjectSet) -> ObjectSet:
    """Sets one after the other. Raises ValueError beyond MOST_OBJECTS, before they are laid out."""
    check_count(sum(map(len, sets)))
    return tuple(one for objects in sets for one in objects)


def check_count(count: int) -> None:
    if count > MOST_OBJECTS:
        raise ValueError(
            f"{count:,} objects are too many for one set; it holds {MOST_OBJECTS} at most. Combine fewer. (A set that goes into several "
            "slots counts as often.)"
        )


def active(objects: ObjectSet) -> ObjectSet:
    """The objects that act: a strength of zero removes an object altogether."""
    return tuple(one for one in objects if one.strength != 0.0)


def branch_inputs(objects: ObjectSet, combine: Combine) -> tuple[BranchInput, ...]:
    """The branches that a set of objects makes: one for "joint", else one each. An object's strength scales its values, on both sides."""
    check_count(len(objects))
    choice(combine, MERGES, "combine")
    acting = active(objects)
    if not acting:
        return ()
    shared = combine in ("by word", "by word, gated") and len(acting) > 1  # a single object has every position whole
    branches = []
    for one in acting:
        tokens = torch.stack([one.null_tokens, one.tokens])  # [2, T, D]
        ones = tokens.new_ones(2, tokens.shape[1], 1)
        names = torch.stack([one.null_name_embeds, one.name_embeds]) if shared else None  # [2, W, D]
        branches.append(BranchInput(tokens, ones, ones * one.strength, names))
    return (joined(branches),) if combine == "joint" else tuple(branches)


def regions_of(objects: ObjectSet, combine: Combine) -> Sequence[Tensor | None]:
    """Where each branch may act, [1, H, W] in 0..1 or None. Objects that share one softmax cannot be kept apart: ValueError."""
    regions = [None if one.region is None else one.region[None].float() / 255 for one in active(objects)]
    if combine == "joint" and any(region is not None for region in regions) and len(regions) > 1:
        raise ValueError(
            'Objects with regions of their own cannot be merged "joint", since they share one softmax. Choose another merge, or '
            "disconnect the regions."
        )
    return regions


def check_adapter(objects: ObjectSet, adapter: str) -> None:
    """Refuse objects that another adapter made: their tokens mean nothing to this one's projections."""
    for one in objects:
        if one.adapter != adapter:
            raise ValueError(
                f'The object "{shown(one.name, 60)}" was made by another adapter ({shown(one.adapter[:12]) or "unknown"}) than the one '
                f"connected here ({adapter[:12]}). Encode it again with this adapter, or connect the adapter that made it."
            )
