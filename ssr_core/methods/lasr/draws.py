"""What one step of learning draws: pictures, views, prompts, noise and shares, out of the seed and the step alone.

So a run that was stopped goes on exactly where it stood, and every host makes the same steps.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .losses import ADAPTIVE_EVERY, drawn_alphas
from .texts import Texts, named
from .views import Views

SCALED = 0.5
"""How often a picture is shown smaller on black (askerlee/AdaFace-dev, ldm/data/personalized.py)."""


class Draw(NamedTuple):
    """One step's. B pictures, R phrases for each.

    pictures, views: [B], which picture, and which of its views (views.py); frames: B; phrases: R lists of B
    timesteps: [B]; noise: [B, 4, h, w]; alphas: [L]; compares: whether adaptive contexts are compared too, with R = 1
    """

    pictures: tuple[int, ...]
    views: tuple[int, ...]
    frames: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]
    timesteps: Tensor
    noise: Tensor
    alphas: Tensor
    compares: bool

    def singles(self, word: str) -> list[str]:
        return [named(frame, word) for frame in self.frames]

    def composed(self, word: str) -> list[str]:
        """All pictures with their first phrase, then all with their second, and so on."""
        return [_joined(single, phrase) for row in self.phrases for single, phrase in zip(self.singles(word), row, strict=True)]


def _joined(single: str, phrase: str) -> str:
    return f"{single}{phrase}" if phrase.startswith(",") else f"{single} {phrase}"


def draw(
    seed: int,
    step: int,
    batch: int,
    repeats: int,
    views: Views,
    texts: Texts,
    captions: Sequence[str],
    layers: int,
    timesteps: int,
    compares: bool = True,
) -> Draw:
    """repeats: R; captions: a frame for each picture instead of drawn ones, or none; compares: whether every fifth step does."""
    chance, generator = random.Random(f"learn/{seed}/{step}"), torch.Generator().manual_seed(_number(seed, step))
    compares = compares and step % ADAPTIVE_EVERY == 0
    pictures = tuple(_in_order(seed, step * batch + place, len(views.latents)) for place in range(batch))
    chosen = tuple(
        views.plain + chance.randrange(views.scaled)
        if views.scaled and chance.random() < SCALED
        else chance.randrange(views.plain)
        for _ in pictures
    )
    frames = tuple(captions[picture] if captions else texts.frame(chance) for picture in pictures)
    phrases = tuple(tuple(texts.phrase(chance) for _ in pictures) for _ in range(1 if compares else repeats))
    at = torch.randint(timesteps, (batch,), generator=generator)
    noise = torch.randn(batch, *views.latents.shape[2:], generator=generator)
    return Draw(pictures, chosen, frames, phrases, at, noise, drawn_alphas(layers, generator), compares)


def _in_order(seed: int, position: int, pictures: int) -> int:
    """All pictures once in random order, then all again in another."""
    order = list(range(pictures))
    random.Random(f"order/{seed}/{position // pictures}").shuffle(order)
    return order[position % pictures]


def _number(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=7).digest(), "big")
