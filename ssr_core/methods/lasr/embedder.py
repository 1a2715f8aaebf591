"""The two embedders of a subject: static, one vector for each layer; adaptive, one made from what enters a layer and from the time.

Knows formulas and shapes: not which token a vector stands for (contexts.py), not what the first values are (from_words.py). A layer is a
block of the UNet that has cross-attention; layers are counted in the order a forward pass meets them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import weight_files
from ...layout import SD15, CrossAttention, UNetLayout
from ...shown import shown

MOST_RANK = 16
"""Of a basis; the authors' limit, which two vectors a word reach with seven words (ldm/modules/embedding_manager.py)."""


@dataclass(frozen=True)
class EmbedderShapes:
    """Shapes of both embedders. words: vectors that are born as words' embeddings; rank: of the basis, the words' vectors included."""

    layout: UNetLayout = SD15
    text_width: int = 768
    words: int = 1
    rank: int = 3

    def __post_init__(self) -> None:
        numbers = (self.text_width, self.words, self.rank)
        if not all(isinstance(number, int) and number > 0 for number in numbers) or not self.words < self.rank <= MOST_RANK:
            raise ValueError(
                f"A subject of {shown(self.words)} words, rank {shown(self.rank)} and width {shown(self.text_width)} is not possible: "
                f"there is at least one word, and the rank is above the number of words and at most {MOST_RANK}. Use fewer words."
            )
        if not self.layers:
            raise ValueError("A subject needs a UNet with cross-attention; this layout has none.")

    @cached_property
    def layers(self) -> tuple[CrossAttention, ...]:
        """The first cross-attention of every block that has any, in execution order; `enters` is the width of the features."""
        return tuple(layer for layer in self.layout.execution_order if layer.block[2] == 0)

    @property
    def identity(self) -> str:
        """The shapes as they enter the fingerprint, spelled out: a field added later must not change the fingerprints of older files."""
        layout = ", ".join(f"{name}={value!r}" for name, value in self.layout.to_dict().items())
        return (
            f"EmbedderShapes(layout=UNetLayout({layout}), text_width={self.text_width}, words={self.words}, rank={self.rank})"
        )


def time_width(entering: int) -> int:
    """How many numbers of the time embedding, its first ones, a layer reads: half as many as of what enters it."""
    return entering // 2


class _Embedder(nn.Module):
    """What both embedders have: a basis, and for every layer a norm and a bias. They share no parameter."""

    def __init__(self, shapes: EmbedderShapes) -> None:
        super().__init__()
        width, layers = shapes.text_width, len(shapes.layers)
        self.pre_vecs = nn.Parameter(torch.zeros(shapes.words, width))
        self.basis_vecs = nn.Parameter(torch.zeros(shapes.rank - shapes.words, width))
        self.bias = nn.Parameter(torch.zeros(layers, width))
        self.bias_scales = nn.Parameter(torch.ones(layers, 1))
        self.layer_lns = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

    def _vectors(self, layer: int, weights: Tensor) -> Tensor:
        """Weights of the basis -> the layer's vectors: [..., r] -> [..., D]."""
        basis = torch.cat([self.pre_vecs, self.basis_vecs])  # [r, D]
        mixed = self.layer_lns[layer](weights @ basis)  # [..., D]
        return mixed / math.sqrt(basis.shape[1]) + self.bias[layer] * self.bias_scales[layer]


class StaticEmbedder(_Embedder):
    """A vector for each layer (StaticLayerwiseEmbedding in askerlee/AdaFace-dev, ldm/modules/embedding_manager.py)."""

    def __init__(self, shapes: EmbedderShapes) -> None:
        super().__init__(shapes)
        self.basis_comm_weights = nn.Parameter(torch.zeros(1, shapes.rank))
        self.basis_rand_weights = nn.Parameter(torch.zeros(len(shapes.layers), shapes.rank))

    def forward(self) -> Tensor:
        """[L, D] in float32, under autocast too."""
        with torch.autocast(self.bias.device.type, enabled=False):
            weights = self.basis_rand_weights + self.basis_comm_weights  # [L, r]
            return torch.stack([self._vectors(layer, row) for layer, row in enumerate(weights)])


class _NormedPair(nn.Module):
    """Features and time, each normalised by itself, one after the other."""

    def __init__(self, entering: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(entering)
        self.ln2 = nn.LayerNorm(time_width(entering))

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """[B, C], [B, T] -> [B, C + C/2]."""
        return torch.cat([self.ln1(features), self.ln2(time[:, : time_width(features.shape[1])])], dim=1)


class AdaptiveEmbedder(_Embedder):
    """A vector from a layer's features and the time (LASREmbedding in askerlee/AdaFace-dev, ldm/modules/embedding_manager.py)."""

    def __init__(self, shapes: EmbedderShapes) -> None:
        super().__init__(shapes)
        entering = [layer.enters for layer in shapes.layers]
        self.layer_maps = nn.ModuleList(nn.Linear(width + time_width(width), shapes.rank) for width in entering)
        self.layer_lncat2s = nn.ModuleList(_NormedPair(width) for width in entering)

    def forward(self, layer: int, pooled: Tensor, time: Tensor) -> Tensor:
        """The layer's vector for each picture, in float32, under autocast too.

        pooled: [B, C], of what enters the layer's block (pooled_features); time: [B, T], the UNet's time vector after its layers
        -> [B, D].
        """
        with torch.autocast(self.bias.device.type, enabled=False):
            return self._vectors(layer, self.basis_weights(layer, pooled, time))

    def basis_weights(self, layer: int, pooled: Tensor, time: Tensor) -> Tensor:
        """How much of each basis vector: [B, r]. No activation and no softmax."""
        return self.layer_maps[layer](self.layer_lncat2s[layer](pooled.float(), time.float()))


class SubjectEmbedder(nn.Module):
    """All that is learned of a subject. Its parts have the names that files give them: "static." and "lasr.", the adaptive one."""

    def __init__(self, shapes: EmbedderShapes) -> None:
        super().__init__()
        self.shapes = shapes
        self.static = StaticEmbedder(shapes)
        self.lasr = AdaptiveEmbedder(shapes)


def pooled_features(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of what enters a block, without gradient: [B, C, h, w] -> [B, C] in float32.

    On the way up, features are taken before the skip joins them. mask: [B, H, W] in 0..1, the part that counts, brought to the features'
    size by nearest (MaskedAvgPool2d in askerlee/AdaFace-dev, ldm/modules/embedding_manager.py); used in training only.
    """
    features = features.detach()
    if mask is None:
        return features.mean(dim=(2, 3), dtype=torch.float32)
    part = F.interpolate(mask[:, None].float(), features.shape[-2:], mode="nearest")  # [B, 1, h, w]
    return (features.float() * part).sum(dim=(2, 3)) / part.sum(dim=(2, 3))


def fingerprint(state: Mapping[str, Tensor], shapes: EmbedderShapes) -> str:
    """Identity of what was learned: its shapes, and names and float32 values of its weights, whatever file they were in."""
    return weight_files.fingerprint(state, shapes.identity)
