"""Which chunks of a UNet call say a subject's word, at which tokens, and how strongly a layer attends to it there.

The places ride on the CONDITIONING (riders.py): they are counted over all chunks of the text encoder, and in the layer's own text keys,
which the host repeats where texts of different lengths share a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ...attention import SUBJECT, plan_spans
from ...merge import token_gate, words_at
from .layer import Layer
from .riders import Rider
from .run import Run

Said = tuple[tuple[int, ...], ...]
"""By chunk, the tokens at which its text says a word; () where it acts in none."""


@dataclass(frozen=True)
class Words:
    """What rides on a CONDITIONING whose text says subjects. places: by subject, where the first token of each occurrence stands."""

    places: Mapping[str, tuple[int, ...]]


class WordsOfCall:
    """riders: what rides on each chunk of the call, None where nothing does on any."""

    def __init__(self, run: Run, riders: Sequence[Rider | None] | None) -> None:
        self.run = run
        self.riders = riders

    def said(self, words: Sequence[str], sides: Sequence[int], layer: Layer) -> tuple[Said, ...]:
        """Of every word, where the chunks on the subject's side say it in the layer's text keys."""
        if not words:
            return ()
        nowhere: Said = ((),) * len(sides)
        if self.riders is None:
            return (nowhere,) * len(words)
        if len(self.riders) != len(sides):
            self.run.warn("another node changed the texts within the UNet, so the places of the subjects' words are not known there.")
            return (nowhere,) * len(words)
        tokens = layer.text_key.shape[1]
        return tuple(
            tuple(
                _in_keys(rider, word, tokens) if rider is not None and side == SUBJECT else ()
                for rider, side in zip(self.riders, sides, strict=True)
            )
            for word in words
        )

    def gates(self, said: Sequence[Said], layer: Layer) -> Tensor:
        """token_gate of every word, [words, chunks, pictures, L, heads]; zero in chunks that say none, which cost nothing."""
        chunks, pictures, tokens, device = len(layer.labels), layer.pictures, layer.text_key.shape[1], layer.query.device
        found: Tensor | None = None
        for span in plan_spans([chunk if any(word[chunk] for word in said) else None for chunk in range(chunks)]):
            own = tuple(word[span.start : span.stop] for word in said)
            words = self.run.kept(("words at", own, tokens, device), _placed(own, tokens, layer))
            part = slice(span.start * pictures, span.stop * pictures)
            gate = token_gate(layer.query[part], layer.text_key[part], words, layer.heads)
            if span.stop - span.start == chunks:
                return gate
            if found is None:
                found = gate.new_zeros(len(said), chunks, *gate.shape[2:])
            found[:, span.start : span.stop] = gate
        if found is None:
            return layer.query.new_zeros(len(said), chunks, pictures, 1, 1)
        return found


def _placed(own: tuple[Said, ...], tokens: int, layer: Layer):  # noqa: ANN202
    return lambda: words_at(own, tokens, layer.query.device)


def _in_keys(rider: Rider, word: str, tokens: int) -> tuple[int, ...]:
    """Where the layer's keys hold a word of the rider's text. Keys of `tokens` tokens are the text once, or several times over."""
    places = rider.content.places.get(word, ())
    times = tokens // rider.tokens if tokens % rider.tokens == 0 else 1
    return tuple(place + time * rider.tokens for time in range(times) for place in places if place + time * rider.tokens < tokens)
