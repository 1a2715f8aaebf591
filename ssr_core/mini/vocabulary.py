"""The words of the drawn world. Their ids are CLIP's own, so a host's tokenizer and ours agree.

vocabulary.json holds the part of CLIP's vocabulary and merges (OpenAI, MIT licence) that these words need.
"""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from .backgrounds import BACKGROUNDS
from .looks import COLOURS, PATTERNS
from .shapes import CLASSES

FILE = Path(__file__).with_name("vocabulary.json")
LENGTH = 77
START, END = 49406, 49407
CLIP_VOCABULARY = 49408

WORDS = tuple(
    sorted(
        {"a", "an", "and", "of", "the", "picture", ",", "with", "two"}
        | set(CLASSES)
        | set(COLOURS)
        | set(PATTERNS)
        | {word for background in BACKGROUNDS.values() for word in background.phrase.split()}
    )
)


def check_words(text: str) -> None:
    """Refuse a text with words that Mini never learned; raises ValueError."""
    unknown = sorted(set(re.findall(r"\w+|[^\w\s]", text.lower())) - set(WORDS))
    if unknown:
        known = ", ".join(word for word in WORDS if word.isalpha())
        raise ValueError(f"SSR Mini does not know {', '.join(map(repr, unknown))}. Its world's words are: {known}.")


@cache
def _kept() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@cache
def tokenizer() -> Any:
    """transformers' CLIPTokenizer over the world's words: 77 ids, padded with the end token."""
    from transformers import CLIPTokenizer

    kept = _kept()
    merges = [tuple(merge) for merge in kept["merges"]]
    options: dict[str, Any] = {"vocab": kept["vocab"], "merges": merges}
    return CLIPTokenizer(**options, model_max_length=LENGTH)


def ids() -> list[int]:
    """Token ids that the world's texts can hold, in order: the embedding rows worth storing."""
    vocab = _kept()["vocab"]
    return sorted({START, END} | {vocab[word + "</w>"] for word in WORDS})


def extract(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, Any]:
    """What WORDS need of CLIP's vocabulary: the pieces and merges that lead to each word, by byte-pair encoding it."""
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    pieces, used = {"<|startoftext|>", "<|endoftext|>"}, set()
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        pieces.update(parts)
        while len(parts) > 1:
            pairs = [pair for pair in pairwise(parts) if pair in ranks]
            if not pairs:
                raise ValueError(f"{word!r} is not one token of CLIP's vocabulary.")
            best = min(pairs, key=ranks.__getitem__)
            used.add(best)
            place = next(i for i, pair in enumerate(pairwise(parts)) if pair == best)
            parts[place : place + 2] = ["".join(best)]
            pieces.add(parts[place])
    return {
        "vocab": {piece: vocab[piece] for piece in sorted(pieces, key=vocab.__getitem__)},
        "merges": sorted(used, key=ranks.__getitem__),
    }
