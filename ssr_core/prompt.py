"""Vectors put in the place of a prompt's token: a subject as a word, wherever the prompt says it.

Knows lists of tokens in chunks of a text encoder's length, each with a start, an end and padding. What an item of such a list is (an id, an
id with a weight, a row of embeddings) and how a text becomes tokens is for the caller to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from .shown import shown

Item = TypeVar("Item")
Tokenize = Callable[[str], tuple[Sequence[int], Sequence[str]]]
"""A text's token ids and how each is spelled, without start, end and padding."""


def placeholder_tokens(placeholders: Sequence[str], tokenize: Tokenize) -> tuple[int, ...]:
    """The token of each placeholder. Raises ValueError for one that is not exactly one token, and for two that are the same."""
    tokens: list[int] = []
    for placeholder in placeholders:
        ids, pieces = tokenize(placeholder)
        if len(ids) != 1:
            splits = ", ".join(f'"{shown(piece.removesuffix("</w>"), 40)}"' for piece in pieces[:8])
            more = f" and {len(pieces) - 8} more" if len(pieces) > 8 else ""
            found = f"is {len(ids)} tokens: {splits}{more}" if len(ids) else "is no token at all"
            raise ValueError(
                f'The placeholder "{shown(placeholder, 60)}" {found}; expected a word that is one token, such as "S". Choose another '
                "placeholder, and use it in the prompt."
            )
        if ids[0] in tokens:
            same = placeholders[tokens.index(ids[0])]
            raise ValueError(
                f'The placeholders "{shown(same, 60)}" and "{shown(placeholder, 60)}" are the same token (capitals do not count). Give '
                "each subject one of its own."
            )
        tokens.append(int(ids[0]))
    return tuple(tokens)


class Placed(NamedTuple, Generic[Item]):
    """Chunks with vectors in them. places: by token, where the first vector of each occurrence stands, counted over all chunks."""

    chunks: list[list[Item]]
    places: dict[int, tuple[int, ...]]


def put_in_place(
    chunks: Sequence[Sequence[Item]],
    words: Mapping[int, int],
    token_of: Callable[[Item], int | None],
    vector: Callable[[Item, int], Item],
    end: int,
    pad: Item,
    continues: Callable[[int], bool] = lambda token: False,
) -> Placed[Item]:
    """Put vectors in the place of tokens, at every occurrence of each.

    chunks: of one length, each start, text, end, padding. words: by token, how many vectors stand for it; token_of: an item's token, None
    for what is none, such as an embedding; vector: the item of vector number n in the place of an item. end: the token that ends a chunk's
    text; pad: an item of padding. continues: whether a token is a piece of a word that goes on, so that the next is no word of its own.

    More vectors than one take the places of padding at the chunk's end (csyxwei/ELITE, train_global.py, inj_forward_text); where there is
    none left, the last of the text moves on into the next chunk, and into a new one after the last. Vectors of one occurrence stay
    together.
    """
    length = max(map(len, chunks))
    made: list[list[Item]] = []
    starts: list[list[tuple[int, int]]] = []  # per chunk: token, position
    waiting: list[_Piece[Item]] = []
    for chunk in chunks:
        stop = next((place for place, item in enumerate(chunk) if place and token_of(item) == end), length - 1)
        waiting += _pieces(chunk[1:stop], words, token_of, vector, continues)
        waiting = _fill(made, starts, waiting, chunk[0], chunk[stop:], pad, length)
    while waiting:
        waiting = _fill(made, starts, waiting, chunks[-1][0], chunks[-1][stop : stop + 1], pad, length)
    places: dict[int, tuple[int, ...]] = dict.fromkeys(words, ())
    for number, own in enumerate(starts):
        for token, position in own:
            places[token] += (number * length + position,)
    return Placed(made, places)


class _Piece(NamedTuple, Generic[Item]):
    """Items that stay together, and the token whose vectors they are."""

    items: list[Item]
    token: int | None


def _pieces(
    text: Sequence[Item],
    words: Mapping[int, int],
    token_of: Callable[[Item], int | None],
    vector: Callable[[Item, int], Item],
    continues: Callable[[int], bool],
) -> Iterator[_Piece[Item]]:
    before: int | None = None
    for item in text:
        token = token_of(item)
        whole = before is None or not continues(before)
        if token is not None and token in words and whole:
            yield _Piece([vector(item, number) for number in range(words[token])], token)
        else:
            yield _Piece([item], None)
        before = token


def _fill(
    made: list[list[Item]],
    starts: list[list[tuple[int, int]]],
    waiting: Sequence[_Piece[Item]],
    start: Item,
    tail: Sequence[Item],
    pad: Item,
    length: int,
) -> list[_Piece[Item]]:
    """Add a chunk of as many pieces as fit, and return those left over. tail: the chunk's end and its padding."""
    chunk = [start]
    own: list[tuple[int, int]] = []
    taken = 0
    for piece in waiting:
        if len(chunk) + len(piece.items) > length - 1:
            break
        if piece.token is not None:
            own.append((piece.token, len(chunk)))
        chunk += piece.items
        taken += 1
    room = length - len(chunk)
    chunk += [*tail[:room], *[pad] * (room - len(tail))]  # text that moved on leaves places
    made.append(chunk)
    starts.append(own)
    return list(waiting[taken:])


def check_placed(places: Mapping[int, Sequence[int]], tokens: Sequence[int], placeholders: Sequence[str], text: str) -> None:
    """Refuse a prompt without one of the placeholders. tokens, placeholders: in one order; text: the prompt, for the message."""
    for token, placeholder in zip(tokens, placeholders, strict=True):
        if not places.get(token):
            name = shown(placeholder, 60)
            raise ValueError(
                f'The prompt "{shown(text, 120)}" does not say "{name}" as a word of its own, so the subject has no place in it. Write it '
                f'where the subject belongs, as in "a photo of a {name}", or set the placeholder to a word of the prompt.'
            )


def named_by(text: str, names: Sequence[str], placeholder: str, most: int = 0) -> str | None:
    """A text with the placeholder in the place of a thing's name, whichever of its names it says, or that says the placeholder already;
    None for one that says neither. most: how many occurrences are replaced, 0 for all."""
    if re.search(rf"(?<!\w){placeholder}(?!\w)", text):
        return text
    for name in sorted(names, key=len, reverse=True):
        if not name.split():
            continue
        words = r"\s+".join(map(re.escape, name.split()))
        replaced, count = re.subn(rf"(?<!\w){words}(?!\w)", placeholder, text, count=most, flags=re.IGNORECASE)
        if count:
            return re.sub(rf"\b(a)n {placeholder}\b", rf"\1 {placeholder}", replaced, flags=re.IGNORECASE)
    return None


def embeds_in_place(
    embeds: Tensor, ids: Tensor, words: Mapping[int, Tensor], end: int, continues: Callable[[int], bool] = lambda token: False
) -> tuple[Tensor, list[dict[int, tuple[int, ...]]]]:
    """Put vectors in the place of tokens in embeddings of texts of one chunk each, before positions are added; gradients pass.

    embeds: [B, T, D] of the ids [B, T]; words: by token [B or 1, n, D] -> [B, T, D], and by text and token the places of first vectors.
    Raises ValueError where a text has no room for more vectors than one.
    """
    length = total = ids.shape[1]
    offsets: dict[int, int] = {}
    for token, vectors in words.items():
        offsets[token] = total
        total += vectors.shape[1]
    table = torch.cat([embeds, *(vectors.to(embeds).expand(len(embeds), -1, -1) for vectors in words.values())], dim=1)
    counts = {token: vectors.shape[1] for token, vectors in words.items()}
    index: list[list[int]] = []
    places: list[dict[int, tuple[int, ...]]] = []
    for row in ids.tolist():
        vector = _numbered(row, offsets)
        placed = put_in_place([range(length)], counts, row.__getitem__, vector, end, length - 1, continues)
        if len(placed.chunks) > 1:
            over = sum(len(own) * (counts[token] - 1) for token, own in placed.places.items())
            raise ValueError(
                f"The prompt has no room for {over} more tokens, which its placeholders need beside the {length} that the text encoder "
                "reads. Shorten the prompt, or use one word of the subject."
            )
        index.append(placed.chunks[0])
        places.append(placed.places)
    rows = torch.arange(len(embeds), device=embeds.device)[:, None]
    return table[rows, torch.tensor(index, device=embeds.device)], places


def _numbered(row: Sequence[int], offsets: Mapping[int, int]) -> Callable[[int, int], int]:
    """Where in the table of embeddings and vectors a vector of a place's token is."""
    return lambda place, number: offsets[row[place]] + number
