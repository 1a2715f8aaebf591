"""The MIP-Adapter: pictures of objects to tokens, and for every cross-attention of a UNet a key and a value projection and a gate.

An IP-Adapter with a learned direction per layer, along which the text attention opens a position to pictures (arXiv 2409.17920). Knows
shapes and the identity of its weights; file formats are in formats.py, the merge of several objects in ssr_core/merge.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import weight_files
from ...layout import SDXL, UNetLayout


@dataclass(frozen=True)
class ResamplerShape:
    """width: of the latent queries; inner: of its attention, heads * head_size; depth: how many blocks; feed_forward: width inside them."""

    width: int = 1280
    inner: int = 1280
    head_size: int = 64
    depth: int = 4
    feed_forward: int = 5120

    def __post_init__(self) -> None:
        numbers = [getattr(self, item.name) for item in fields(self)]
        if not all(isinstance(number, int) and number > 0 for number in numbers) or self.inner % self.head_size:
            raise ValueError(f"impossible resampler shapes: {self}")

    @property
    def heads(self) -> int:
        return self.inner // self.head_size


@dataclass(frozen=True)
class AdapterConfig:
    """Shapes of an adapter. vision_width: of the pooled embedding that the linear projector takes, or of the hidden states that the
    resampler takes; tokens: of a reference; resampler: None for the linear projector. The defaults are the released `sdxl` variant's."""

    layout: UNetLayout = SDXL
    text_width: int = 2048
    vision_width: int = 1280
    tokens: int = 4
    resampler: ResamplerShape | None = None

    def __post_init__(self) -> None:
        numbers = (self.text_width, self.vision_width, self.tokens)
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError(f"impossible adapter shapes: {self}")

    @property
    def pooled(self) -> bool:
        """Whether it takes a picture's pooled embedding instead of its hidden states."""
        return self.resampler is None

    def to_dict(self) -> dict[str, Any]:
        """As written into files."""
        shape = (
            None
            if self.resampler is None
            else {item.name: getattr(self.resampler, item.name) for item in fields(self.resampler)}
        )
        return {
            "layout": self.layout.to_dict(),
            "text_width": self.text_width,
            "vision_width": self.vision_width,
            "tokens": self.tokens,
            "resampler": shape,
        }

    @property
    def identity(self) -> str:
        """The shapes as they enter the fingerprint, spelled out: a field added later must not change the fingerprints of older files."""
        layout = ", ".join(f"{name}={value!r}" for name, value in self.layout.to_dict().items())
        shape = self.resampler and (
            f"{self.resampler.width}, {self.resampler.inner}, {self.resampler.head_size}, {self.resampler.depth}, "
            f"{self.resampler.feed_forward}"
        )
        return f"MIP({layout}; {self.text_width}, {self.vision_width}, {self.tokens}; {shape})"


class LinearProjector(nn.Module):
    """Pooled embedding to tokens: [B, E] -> [B, T, D]. (ImageProjModel in hqhQAQ/MIP-Adapter, ip_adapter/ip_adapter.py)"""

    def __init__(self, config: AdapterConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(config.vision_width, config.tokens * config.text_width, **factory)
        self.norm = operations.LayerNorm(config.text_width, eps=1e-5, **factory)

    def forward(self, embedding: Tensor) -> Tensor:
        tokens = self.proj(embedding).unflatten(-1, (-1, self.norm.normalized_shape[0]))  # [B, T, D]
        return self.norm(tokens)


class PerceiverAttention(nn.Module):
    """Latent queries attend to a picture's features and to themselves: [B, P, W], [B, T, W] -> [B, T, W]."""

    def __init__(self, shape: ResamplerShape, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1 = operations.LayerNorm(shape.width, **factory)
        self.norm2 = operations.LayerNorm(shape.width, **factory)
        self.to_q = operations.Linear(shape.width, shape.inner, bias=False, **factory)
        self.to_kv = operations.Linear(shape.width, 2 * shape.inner, bias=False, **factory)
        self.to_out = operations.Linear(shape.inner, shape.width, bias=False, **factory)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        key, value = self.to_kv(torch.cat([self.norm1(features), latents], dim=1)).chunk(2, dim=-1)  # [B, P + T, inner] each
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.to_q(latents), key, value))  # [B, H, N, d]
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """Hidden states to tokens: [B, P, E] -> [B, T, D]. (Resampler in hqhQAQ/MIP-Adapter, ip_adapter/resampler.py)"""

    def __init__(self, config: AdapterConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        shape = config.resampler
        assert shape is not None
        self.latents = nn.Parameter(torch.empty(1, config.tokens, shape.width, **factory))
        self.proj_in = operations.Linear(config.vision_width, shape.width, **factory)
        self.proj_out = operations.Linear(shape.width, config.text_width, **factory)
        self.norm_out = operations.LayerNorm(config.text_width, **factory)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(shape, operations, **factory),
                    nn.Sequential(
                        operations.LayerNorm(shape.width, **factory),
                        operations.Linear(shape.width, shape.feed_forward, bias=False, **factory),
                        nn.GELU(),
                        operations.Linear(shape.feed_forward, shape.width, bias=False, **factory),
                    ),
                ]
            )
            for _ in range(shape.depth)
        )
        nn.init.normal_(self.latents, std=shape.width**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        features = self.proj_in(features)  # [B, P, W]
        latents = self.latents.to(features).expand(features.shape[0], -1, -1)  # [B, T, W]
        for block in self.layers:
            latents = latents + block[0](features, latents)  # type: ignore[index]  # a ModuleList of two
            latents = latents + block[1](latents)  # type: ignore[index]
        return self.norm_out(self.proj_out(latents))


class ObjectProjection(nn.Module):
    """What one cross-attention layer has of an object's tokens: keys and values, [B, N, D] -> two [B, N, C], without bias, and its gate.

    gate: [C], the direction of merge.text_gate; zeros for a gate that is 1 everywhere.
    """

    def __init__(self, text_width: int, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.to_k = operations.Linear(text_width, width, bias=False, **factory)
        self.to_v = operations.Linear(text_width, width, bias=False, **factory)
        self.gate = nn.Parameter(torch.zeros(width, **factory))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # A copy of the gate: engines of training that spread weights over devices take them back when this returns.
        return self.to_k(tokens), self.to_v(tokens), self.gate.clone()


class MIPAdapter(nn.Module):
    """Projector plus object projections, in the checkpoint's layer order.

    fingerprint: identity of the weights; objects carry it, so that tokens never meet projections of another adapter.
    """

    def __init__(
        self,
        config: AdapterConfig,
        operations: Any = nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = ""
        projector = LinearProjector if config.pooled else Resampler
        self.projector = projector(config, operations, device=device, dtype=dtype)
        self.layers = nn.ModuleList(
            ObjectProjection(config.text_width, layer.width, operations, device=device, dtype=dtype)
            for layer in config.layout.layers
        )

    def forward(self, features: Tensor) -> Tensor:
        """Tokens of pictures: embeddings [B, E], or hidden states [B, P, E] for a resampler -> [B, T, D]."""
        return self.projector(features)

    def project(
        self, tokens: Tensor, key_scale: Tensor | float = 1.0, value_scale: Tensor | float = 1.0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of all layers, in checkpoint order, one layer at a time. tokens: [B, N, D]; the scales: [B, N, 1] -> per layer
        ([B, N, C], [B, N, C])."""
        for layer in self.layers:
            key, value, _ = layer(tokens)
            yield key * key_scale, value * value_scale

    @property
    def gates(self) -> tuple[Tensor, ...]:
        """[C] of every layer, float32 on the CPU."""
        return tuple(layer.gate.detach().float().cpu() for layer in self.layers)  # type: ignore[operator]


def fingerprint(state: Mapping[str, Tensor], config: AdapterConfig) -> str:
    """Identity of an adapter: its shapes, and names and float32 values of its weights, whatever file they were in."""
    return weight_files.fingerprint(state, config.identity)
