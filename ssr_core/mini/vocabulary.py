"""The words of the drawn world. Their ids are CLIP's own, so a host's tokenizer and ours agree.

vocabulary.json holds the part of CLIP's vocabulary and merges (OpenAI, MIT licence) that these words need.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
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


PLACEHOLDERS = ("s", "y", "z")
"""One-letter words that stand for a subject (ELITE, LASR); by themselves they say only "some thing"."""


def check_words(text: str) -> None:
    """Refuse a text with words that Mini never learned; raises ValueError."""
    refuse(unknown_words(text))


def refuse(unknown: Sequence[str], most: int = 12) -> None:
    """Raises ValueError that names the words, of many the first, if there are any."""
    if unknown:
        known = ", ".join(word for word in WORDS if word.isalpha())
        named = ", ".join(repr(word[:40]) for word in unknown[:most])
        more = f" and {len(unknown) - most} more" if len(unknown) > most else ""
        raise ValueError(f"SSR Mini does not know {named}{more}. Its world's words are: {known}.")


def unknown_words(text: str) -> list[str]:
    """Words that Mini never learned."""
    return sorted(set(re.findall(r"\w+|[^\w\s]", text.lower())) - set(WORDS) - set(PLACEHOLDERS))


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


def ids(rows: int | None = None) -> list[int]:
    """Token ids that the world's texts can hold, in order: the embedding rows worth storing.

    rows: how many a file has. Files from before there were placeholders have none for them.
    """
    vocab = _kept()["vocab"]
    words = {START, END} | {vocab[word + "</w>"] for word in WORDS}
    placeholders = {vocab[letter + "</w>"] for letter in PLACEHOLDERS}
    return sorted(words if rows == len(words) else words | placeholders)
