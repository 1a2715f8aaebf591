"""Models to learn a subject on in milliseconds: words are numbers of their own, a text encoder that mixes earlier tokens into later ones,
and a UNet whose layers each ask for their context."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from support.lasr_subjects import TINY, WIDTH
from torch import Tensor, nn

from ssr_core.methods.lasr.learning import LayerwiseLearner, Learning
from ssr_core.methods.lasr.recipe import Context, Recipe, begin
from ssr_core.methods.lasr.views import Views

VOCABULARY, LENGTH, TIME = 997, 12, 64
START, END = 0, 1


class ToyModels:
    half = False
    base = "toy"
    device = torch.device("cpu")

    def __init__(self, checkpointing: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

        self.layout, self.checkpointing = TINY, checkpointing
        self.table = drawn(VOCABULARY, WIDTH)
        self.kept = torch.linspace(0.99, 0.01, 50)
        self.layers = [layer for layer in TINY.execution_order if layer.block[2] == 0]
        self.text, self.entering = drawn(WIDTH, WIDTH), [drawn(layer.enters, 4) for layer in self.layers]
        self.out = [drawn(4, WIDTH) for _ in self.layers]
        self.encoded = 0

    def tokens(self, text: str) -> list[tuple[int, str]]:
        return [(2 + zlib.crc32(word.encode()) % (VOCABULARY - 2), f"{word}</w>") for word in text.replace(",", " ,").split()]

    def ids(self, texts: Sequence[str]) -> Tensor:
        rows = [[START, *(token for token, _ in self.tokens(text))][:LENGTH] for text in texts]
        return torch.tensor([row + [END] * (LENGTH - len(row)) for row in rows])

    def embeds(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def encode(self, embeds: Tensor) -> Tensor:
        self.encoded += len(embeds)
        earlier = embeds.cumsum(dim=1) / torch.arange(1, embeds.shape[1] + 1)[:, None]
        return nn.functional.layer_norm((embeds + earlier @ self.text).tanh(), (WIDTH,))

    def predict(self, noisy: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        time = timesteps[:, None] * torch.linspace(0, 1, TIME)
        found = noisy
        for number, (entering, out) in enumerate(zip(self.entering, self.out, strict=True)):
            text = context(number, torch.einsum("bchw,dc->bdhw", found, entering), time.sin())  # [B, T, D]
            found = found + (text.mean(dim=1) @ out.T)[..., None, None]
        return found


def views(pictures: int = 3, scaled: int = 2) -> Views:
    latents = torch.randn(pictures, 2 + scaled, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    return Views(latents, torch.ones(pictures, 2 + scaled, 8, 8), 2)


def recipe(**changes) -> Recipe:
    return Recipe(**{"words": "tabby cat", "weights": (1.0, 2.0), "steps": 12} | changes)


def run(made: Recipe | None = None, models: ToyModels | None = None, kept=None, **options) -> Learning:
    """A run before its first step, or that goes on from kept (progress.Progress)."""
    made, models = made or recipe(), models or ToyModels()
    subject = kept.subject if kept else begin(models, made)
    learner = LayerwiseLearner(subject, made, models.device)
    if kept:
        options |= {"step": subject.learning.step, "state": kept.state}
    return Learning(models, learner, made, views(), **options)
