"""The words of the drawn world. Their ids are CLIP's own, so a host's tokenizer and ours agree.

vocabulary.json holds, of CLIP's vocabulary and merges (OpenAI, MIT licence), what these words need.
"""

from __future__ import annotations

import json
import re
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
    if unknown := unknown_words(text):
        known = ", ".join(word for word in WORDS if word.isalpha())
        raise ValueError(f"SSR Mini does not know {', '.join(unknown)}. Its world's words are: {known}.")


def unknown_words(text: str, most: int = 12) -> list[str]:
    """Words that Mini never learned, in quotes; of many the first."""
    unknown = sorted(set(re.findall(r"\w+|[^\w\s]", text.lower())) - set(WORDS) - set(PLACEHOLDERS))
    return [repr(word[:40]) for word in unknown[:most]] + ([f"{len(unknown) - most} more"] if len(unknown) > most else [])


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
