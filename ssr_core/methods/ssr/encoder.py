"""The SSR-Encoder: the aligner and, for every cross-attention of a UNet, a key and a value projection.

Knows shapes and the identity of its weights; file formats are in formats.py, what a layer does with K and V in
attention.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ... import weight_files
from ...layout import SD15, UNetLayout
from .aligner import Aligned, Aligner


@dataclass(frozen=True)
class EncoderConfig:
    """Shapes of an encoder. vision_layers: which layers of the vision model are the scales (1 = first layer's output)."""

    layout: UNetLayout = SD15
    text_width: int = 768
    vision_width: int = 1024
    inner_width: int = 512
    heads: int = 8
    vision_layers: tuple[int, ...] = (4, 8, 12, 16, 20, 24)

    def __post_init__(self) -> None:
        numbers = (
            self.text_width,
            self.vision_width,
            self.inner_width,
            self.heads,
            len(self.vision_layers),
            *self.vision_layers,
        )
        if not all(isinstance(number, int) and number > 0 for number in numbers) or self.inner_width % self.heads:
            raise ValueError(f"impossible encoder shapes: {self}")

    def to_dict(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"layout": self.layout.to_dict()}

    @property
    def identity(self) -> str:
        """The shapes as they enter the fingerprint, spelled out: a field added later must not change the fingerprints of older files."""
        layout = self.layout.to_dict()
        return (
            f"EncoderConfig(layout=UNetLayout({', '.join(f'{name}={value!r}' for name, value in layout.items())}), "
            f"text_width={self.text_width}, vision_width={self.vision_width}, inner_width={self.inner_width}, heads={self.heads}, "
            f"vision_layers={self.vision_layers})"
        )


class SubjectProjection(nn.Module):
    """Keys and values of subject tokens for one cross-attention layer: [B, N, D] -> two [B, N, C]. No bias."""

    def __init__(self, text_width: int, width: int, operations: Any = nn, **factory: Any) -> None:
        super().__init__()
        self.to_k = operations.Linear(text_width, width, bias=False, **factory)
        self.to_v = operations.Linear(text_width, width, bias=False, **factory)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_k(tokens), self.to_v(tokens)


class SSREncoder(nn.Module):
    """Aligner plus subject projections, in the checkpoint's layer order.

    fingerprint: identity of the weights; subjects carry it, so that tokens never meet projections of another encoder.
    """

    def __init__(
        self,
        config: EncoderConfig,
        operations: Any = nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = ""
        self.aligner = Aligner(
            config.text_width,
            config.vision_width,
            config.inner_width,
            config.heads,
            len(config.vision_layers),
            operations,
            device=device,
            dtype=dtype,
        )
        self.layers = nn.ModuleList(
            SubjectProjection(config.text_width, layer.width, operations, device=device, dtype=dtype)
            for layer in config.layout.layers
        )

    def forward(
        self, query: Tensor, features: Tensor, mask: Tensor | None = None, mask_weight: float | Tensor = 1.0
    ) -> Aligned:
        """See Aligner.forward."""
        return self.aligner(query, features, mask, mask_weight)

    def project(
        self, tokens: Tensor, key_scale: Tensor | float = 1.0, value_scale: Tensor | float = 1.0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of all layers, in checkpoint order, one layer at a time, so that a host may put each away before the next.

        tokens: [B, N, D]; the scales: [B, N, 1] -> per layer ([B, N, C], [B, N, C]).
        """
        for layer in self.layers:
            key, value = layer(tokens)
            yield key * key_scale, value * value_scale


def fingerprint(state: Mapping[str, Tensor], config: EncoderConfig) -> str:
    """Identity of an encoder: its shapes, and names and float32 values of its weights, whatever file they were in."""
    return weight_files.fingerprint(state, config.identity)
