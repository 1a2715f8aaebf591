"""What a training prompt of ELITE says: the subject's word, once or more, each time as exactly the token that its vectors replace.

The authors put words into a prompt by counting spaces, so that a prefix that is two tokens, or a template that begins with "the", moves the
subject to another word (elite.md, E2 and E3). Here a prompt is built of words and checked by its tokens.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from ..hosts.diffusers.elite import PLACEHOLDER

TEMPLATES = tuple(
    f"{start} {{}}"
    for start in (
        "a photo of a", "a rendering of a", "a cropped photo of the", "the photo of a", "a photo of a clean", "a photo of a dirty",
        "a dark photo of the", "a photo of my", "a photo of the cool", "a close-up photo of a", "a bright photo of the",
        "a cropped photo of a", "a photo of the", "a good photo of the", "a photo of one", "a close-up photo of the",
        "a rendition of the", "a photo of the clean", "a rendition of a", "a photo of a nice", "a good photo of a", "a photo of the nice",
        "a photo of the small", "a photo of the weird", "a photo of the large", "a photo of a cool", "a photo of a small",
    )
)  # fmt: skip
"""Of csyxwei/ELITE, datasets.py (and of Textual Inversion before it)."""
FAR, NEAR = ("a far away", "very small"), ("zoomed in", "close up")
"""What a prompt begins with where the target shows its subject small, or only a part of it (csyxwei/ELITE, datasets.py)."""

_ARTICLE = re.compile(r"^(a|an|the)\s+", re.IGNORECASE)
_WORD = re.compile(rf"(?<!\w){PLACEHOLDER}(?!\w)")


def filled(template: str) -> str:
    return template.replace("{}", PLACEHOLDER)


def in_view(text: str, view: str) -> str:
    """A prompt that says how its subject is seen, in the place of its first article: "the photo of a S" -> "close up photo of a S"."""
    return f"{view} {_ARTICLE.sub('', text)}" if view else text


def fits(tokenizer: Any, text: str, words: int, length: int) -> bool:
    """Whether the text encoder reads the word wherever the text says it, nowhere else, and has room for all its vectors."""
    (token,) = tokenizer(PLACEHOLDER, add_special_tokens=False).input_ids
    ids = tokenizer(text, verbose=False).input_ids
    count = ids.count(token)
    return 0 < count == len(_WORD.findall(text)) and len(ids) + count * (words - 1) <= length


def caption(
    own: str | None, view: str, templates: Sequence[str], rng: random.Random, tokenizer: Any, words: int, length: int
) -> str:
    """A prompt that hits the word: the sample's own where it does, else one of the templates.

    own: its text with the word in it (prompt.named_by), or None.
    """
    if own is not None and fits(tokenizer, text := in_view(own, view), words, length):
        return text
    return in_view(filled(rng.choice(templates)), view)
