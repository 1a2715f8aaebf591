"""The two mapping networks of ELITE, and the key and value projections that come with each.

The global mapper makes words of a picture; its projections replace the UNet's own of the text. The local mapper makes a grid of tokens;
its projections serve a second branch. Parameters are called as in the published files. Knows shapes and the identity of the weights; file
formats are in formats.py, what a layer does with K and V in merge.py (token_gate) and attention.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ... import weight_files
from ...layout import SD15, CrossAttention, UNetLayout

Stage = Literal["global", "local"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""Which of the two mappers, each with a file and a training stage of its own."""

SLOPE = 0.01
"""Of LeakyReLU below zero (csyxwei/ELITE, train_global.py, Mapper)."""


@dataclass(frozen=True)
class EliteConfig:
    """Shapes of both mappers. vision_layers: which layers of the vision model they read (1 = first layer's output), one word for each,
    in the words' order (csyxwei/ELITE, train_global.py); grid: side of the local tokens' square, the vision model's patches."""

    layout: UNetLayout = SD15
    text_width: int = 768
    vision_width: int = 1024
    hidden_width: int = 1024
    vision_layers: tuple[int, ...] = (24, 4, 8, 12, 16)
    grid: int = 16

    def __post_init__(self) -> None:
        numbers = (
            self.text_width,
            self.vision_width,
            self.hidden_width,
            self.grid,
            len(self.vision_layers),
            *self.vision_layers,
        )
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError(f"impossible shapes of ELITE: {self}")

    @property
    def words(self) -> int:
        return len(self.vision_layers)

    def to_dict(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"layout": self.layout.to_dict()}

    @property
    def identity(self) -> str:
        """The shapes as they enter the fingerprint, spelled out: a field added later must not change the fingerprints of older files."""
        layout = ", ".join(f"{name}={value!r}" for name, value in self.layout.to_dict().items())
        return (
            f"EliteConfig(layout=UNetLayout({layout}), text_width={self.text_width}, vision_width={self.vision_width}, "
            f"hidden_width={self.hidden_width}, vision_layers={self.vision_layers}, grid={self.grid})"
        )


class LayerWeights(NamedTuple):
    """Key and value matrices of one cross-attention, [C, D] each."""

    layer: CrossAttention
    key: Tensor
    value: Tensor


class Mapper(nn.Module):
    """What both mappers have: two towers for each layer of the vision model, and projections for each cross-attention."""

    def __init__(
        self,
        config: EliteConfig,
        operations: Any = nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        factory = {"device": device, "dtype": dtype}
        for scale in range(config.words):
            self.add_module(f"mapping_{scale}", _tower(config, operations, factory))
            self.add_module(f"mapping_patch_{scale}", _tower(config, operations, factory))
        for layer in config.layout.layers:
            for part in ("to_k", "to_v"):
                made = operations.Linear(config.text_width, layer.width, bias=False, **factory)
                self.add_module(f"{stem(layer)}_{part}", made)

    def towers(self, features: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """features: [B, S, 1+P, V], class token first -> per scale the class token [B, 1, D] and the patches [B, P, D]."""
        for scale, own in enumerate(features.unbind(1)):
            yield (
                self.get_submodule(f"mapping_{scale}")(own[:, :1]),
                self.get_submodule(f"mapping_patch_{scale}")(own[:, 1:]),
            )

    def project(self, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of all layers, in checkpoint order, one layer at a time. tokens: [B, N, D] -> ([B, N, C], [B, N, C])."""
        for layer in self.config.layout.layers:
            yield self._linear(layer, "to_k")(tokens), self._linear(layer, "to_v")(tokens)

    def matrices(self) -> tuple[LayerWeights, ...]:
        """The projections themselves, in checkpoint order. The global ones stand in the place of the UNet's own, with a condition or
        without; a host that keeps others' changes to those (LoRAs) adds replacement_delta instead."""
        return tuple(
            LayerWeights(layer, self._linear(layer, "to_k").weight, self._linear(layer, "to_v").weight)
            for layer in self.config.layout.layers
        )

    def _linear(self, layer: CrossAttention, part: str) -> Any:
        return self.get_submodule(f"{stem(layer)}_{part}")


class GlobalMapper(Mapper):
    def forward(self, features: Tensor) -> Tensor:
        """features: [B, S, 1+P, V] -> words [B, S, D]: class token plus the mean of the patches, each behind its tower (elite.md, 4)."""
        return torch.cat([whole + patches.mean(dim=1, keepdim=True) for whole, patches in self.towers(features)], dim=1)


class LocalMapper(Mapper):
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """features: [B, S, 1+P, V], mask: [B, P] of 0 and 1 -> tokens [B, P, D], the mean over the scales (elite.md, 5).

        Tokens outside the mask become zero vectors and stay: released weights were trained with them in the softmax.
        """
        tokens = torch.stack([whole + patches for whole, patches in self.towers(features)]).mean(dim=0)  # [B, P, D]
        return tokens if mask is None else tokens * mask[..., None].to(tokens)


class Elite(nn.Module):
    """Both mappers, or the global one alone, which makes words and nothing else.

    fingerprint: identity of the weights; subjects carry it, so that they never meet projections that others made.
    """

    def __init__(
        self,
        config: EliteConfig,
        operations: Any = nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        local: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = ""
        self.global_mapper = GlobalMapper(config, operations, device, dtype)
        self.local_mapper = LocalMapper(config, operations, device, dtype) if local else None


def replacement_delta(replacement: Tensor, own: Tensor) -> Tensor:
    """What has to be added to a UNet's own matrix to make it the replacement, in float32: added, it leaves room for every LoRA's delta,
    before it or after it."""
    return replacement.float() - own.to(replacement.device, torch.float32)


def stem(layer: CrossAttention) -> str:
    """Name of a layer in the published files, before "_to_k.weight" (sd14_layer_map.json)."""
    return layer.diffusers_name.replace(".", "_")


def stage_fingerprint(state: Mapping[str, Tensor], config: EliteConfig, stage: Stage) -> str:
    """Identity of one mapper, whatever file it was in. Both have the same names, so the stage is part of it."""
    return weight_files.fingerprint(state, f"{stage} {config.identity}")


def _tower(config: EliteConfig, operations: Any, factory: Mapping[str, Any]) -> nn.Sequential:
    return nn.Sequential(
        operations.Linear(config.vision_width, config.hidden_width, **factory),
        operations.LayerNorm(config.hidden_width, **factory),
        nn.LeakyReLU(SLOPE),
        operations.Linear(config.hidden_width, config.hidden_width, **factory),
        operations.LayerNorm(config.hidden_width, **factory),
        nn.LeakyReLU(SLOPE),
        operations.Linear(config.hidden_width, config.text_width, **factory),
    )
