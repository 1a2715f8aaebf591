"""Words and their encodings: what a text encoder's pieces spell, and which of its tokens belong to which word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Word(NamedTuple):
    """A word of the query and the token positions [first, stop) it occupies."""

    text: str
    first: int
    stop: int


@dataclass(frozen=True)
class Query:
    """Encoded words. embeds: [1, T, D], the text encoder's last hidden state after its final LayerNorm."""

    text: str
    embeds: Tensor
    words: tuple[Word, ...] = ()

    @property
    def word_embeds(self) -> Tensor:
        """[W, D], embeds at the token positions of words."""
        return self.embeds[0, [position for word in self.words for position in range(word.first, word.stop)]]


def words_of(pieces: Sequence[str]) -> tuple[Word, ...]:
    """The words in a tokenised text. pieces: CLIP's byte pairs, the start token first; </w> marks a word's last piece."""
    words: list[Word] = []
    spelled, first = "", 1
    for position, piece in enumerate(pieces[1:], start=1):
        spelled += piece.removesuffix("</w>")
        if piece.endswith("</w>"):
            text = _read_bytes(spelled)
            if any(character.isalnum() for character in text):
                words.append(Word(text, first, position + 1))
            spelled, first = "", position + 1
    return tuple(words)


def _byte_alphabet() -> dict[str, int]:
    """The byte behind each character of CLIP's pieces (GPT-2's bytes_to_unicode): printable ones stand for themselves, all others are
    counted from U+0100 on."""
    themselves = {chr(byte): byte for byte in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))}
    others = sorted(set(range(256)) - set(themselves.values()))
    return themselves | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def _read_bytes(spelled: str) -> str:
    if not _BYTES.keys() >= set(spelled):  # a word that was added to the vocabulary as a whole
        return spelled
    return bytes(_BYTES[character] for character in spelled).decode("utf-8", errors="replace")
