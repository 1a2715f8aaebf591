"""Which chunks of a UNet call say a subject's word, at which tokens, and how strongly a layer attends to it there.

The places ride on the CONDITIONING (riders.py). They are counted over all chunks of the text encoder, and are those of the layer's text
keys, which the host repeats where texts of different lengths share a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...attention import SUBJECT, plan_spans
from ...merge import token_gate, words_at
from ...shown import shown
from .applied import Applied
from .conditions import side_of_name
from .layer import Layer
from .riders import Rider, rider_of, settle
from .run import Run

KIND = "elite"
PROMPT, APPLY = "Prompt with Subject (ELITE)", "Apply Subject (ELITE)"

Said = tuple[tuple[int, ...], ...]
"""By chunk, the tokens at which its text says a word; () where it acts in none."""


@dataclass(frozen=True)
class Words:
    """What rides on a CONDITIONING whose text says subjects. places: by subject, where the first token of each occurrence stands; maker:
    fingerprint of the weights that made the subjects."""

    places: Mapping[str, tuple[int, ...]]
    maker: str


def check_prompts(parts: Sequence[Applied], conds: Mapping[str, list[dict[str, Any]] | None]) -> None:
    """Before a sampling: refuse prompts that the applied parts do not know, and subjects that act but that no positive prompt says.

    conds: the guider's lists; those without a rider get a neutral one.
    """
    makers = {part.maker for part in parts if part.maker}
    for rider in settle(conds, KIND):
        if rider.content.maker not in makers:
            raise ValueError(
                f'The prompt "{shown(rider.text, 60)}" says a subject of another ELITE ({shown(rider.content.maker[:12])}) than the one '
                f"applied to this MODEL ({', '.join(maker[:12] for maker in makers)}). Use one ELITE for both."
            )
    on_side = [cond for name, own in conds.items() if side_of_name(name) == SUBJECT for cond in own or ()]
    positive = [rider for rider in (rider_of(cond, KIND) for cond in on_side) if rider is not None]
    for part in parts:
        for word, named in zip(part.words, part.parts, strict=bool(part.words)):
            if any(rider.content.places.get(word) for rider in positive):
                continue
            prompts = ", ".join(f'"{shown(rider.text, 60)}"' for rider in positive[:4])
            found = f"The sampler's positive prompt is {prompts}" if positive else f"No positive prompt comes from {PROMPT}"
            raise ValueError(
                f"{found}, so {named.query} of {APPLY} has no place in the picture. Connect {PROMPT} with this subject to the sampler's "
                "positive input, or leave the subject out."
            )


class WordsOfCall:
    """riders: what rides on each chunk of the call, None where nothing does on any."""

    def __init__(self, run: Run, riders: Sequence[Rider | None] | None) -> None:
        self.run = run
        self.riders = riders

    def said(self, words: Sequence[str], sides: Sequence[int], layer: Layer) -> tuple[Said, ...]:
        """Of every word, where the chunks on the subject's side say it in the layer's text keys."""
        nowhere: Said = ((),) * len(sides)
        if words and self.riders is not None and len(self.riders) != len(sides):
            self.run.warn("another node changes the texts within the UNet, where the places of subjects' words are not known.")
        if self.riders is None or len(self.riders) != len(sides):
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
        chunks, pictures = len(layer.labels), layer.pictures
        found = layer.query.new_zeros(len(said), chunks, pictures, layer.query.shape[1], layer.heads)
        for span in plan_spans([chunk if any(word[chunk] for word in said) else None for chunk in range(chunks)]):
            words = self._at(tuple(word[span.start : span.stop] for word in said), layer)
            part = slice(span.start * pictures, span.stop * pictures)
            found[:, span.start : span.stop] = token_gate(layer.query[part], layer.text_key[part], words, layer.heads)
        return found

    def _at(self, said: tuple[Said, ...], layer: Layer) -> Tensor:
        tokens, device = layer.text_key.shape[1], layer.query.device
        return self.run.kept(("words at", said, tokens, device), lambda: words_at(said, tokens, device))


def _in_keys(rider: Rider, word: str, tokens: int) -> tuple[int, ...]:
    """Where the layer's keys hold a word of the rider's text. Keys of `tokens` tokens are the text once, or several times over."""
    places = rider.content.places.get(word, ())
    times = tokens // rider.tokens if tokens % rider.tokens == 0 else 1
    return tuple(
        place + time * rider.tokens for time in range(times) for place in places if place + time * rider.tokens < tokens
    )
