"""A vision model and an encoder of a few numbers, to encode subjects with in no time."""

from __future__ import annotations

import torch

from ssr_core.layout import UNetLayout
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder
from ssr_core.words import Query, Word

SIZE, GRID, WIDTH, TOKENS, LAYERS = 32, 4, 10, 3, 3
CONFIG = EncoderConfig(
    UNetLayout((8,), (1,), 1, 2), text_width=6, vision_width=WIDTH, inner_width=8, heads=2, vision_layers=(1, 3)
)


class FakeVision:
    """Three layers of patch features that depend on the pixels of their patch; counts the pictures of every call."""

    def __init__(self):
        self.batches = []

    def __call__(self, pixels):
        self.batches.append(len(pixels))
        patches = pixels.unfold(2, SIZE // GRID, SIZE // GRID).unfold(3, SIZE // GRID, SIZE // GRID)  # [B, 3, g, g, p, p]
        means = patches.mean((-1, -2)).flatten(2).transpose(1, 2)  # [B, g*g, 3]
        means = torch.cat([means.mean(1, keepdim=True), means], 1)  # CLS first
        spread = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))
        return [layer * means @ spread for layer in (1.0, 2.0, 3.0)]


class CountingAligner:
    """A real small encoder that notes the masks and weights it was asked with."""

    def __init__(self):
        torch.manual_seed(0)
        self.module = SSREncoder(CONFIG).requires_grad_(False)
        self.masks, self.weights = [], []

    def __call__(self, query, features, mask, weight):
        self.masks.append(mask)
        self.weights.append(weight)
        return self.module(query, features, mask, weight)


def query(seed, text="dog"):
    return Query(text, torch.randn(1, TOKENS, 6, generator=torch.Generator().manual_seed(seed)), (Word(text, 1, 2),))


DOG, CAT, NULL = query(1), query(2, "cat"), Query("", query(3).embeds)
