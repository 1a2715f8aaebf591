"""Which cross-attention layers a UNet has, and what each code base calls them.

Checkpoints number the layers in diffusers' registration order (down, up, mid LAST); a UNet runs them in another order
(down, mid, up), and ComfyUI names them by block. This file is the one place that knows how the three relate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

Block = tuple[str, int, int]
"""ComfyUI's name of a transformer block: ("input" | "middle" | "output", block number, depth within the block)."""


@dataclass(frozen=True)
class CrossAttention:
    """One cross-attention (attn2) layer.

    index: place in the checkpoint's order; width = heads * head size; level: how often the latent was halved there, 0 for the finest;
    enters: channels of what enters its block, before the block's resnet and, on the way up, before the skip joins it.
    """

    index: int
    diffusers_name: str
    block: Block
    width: int
    heads: int
    level: int
    enters: int

    @property
    def ip_adapter_number(self) -> int:
        """Its number in files of IP-Adapter and its successors ("<number>.to_k_ip.weight"); even numbers are self-attentions."""
        return 2 * self.index + 1


class Found(NamedTuple):
    """A cross-attention that a host found in a UNet. name: diffusers' or a ComfyUI block."""

    name: str | Block
    width: int
    heads: int


@dataclass(frozen=True)
class UNetLayout:
    """The cross-attention layers of a Stable-Diffusion UNet, derived from the shape of its levels.

    channels: width of each level. depths: transformer blocks per attention of each level, 0 where the level has none.
    resnets: resnet blocks per down level (an up level has one more). heads: attention heads of each level; one number serves all.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    resnets: int
    heads: tuple[int, ...]
    mid_depth: int

    def __init__(
        self,
        channels: Sequence[int],
        depths: Sequence[int],
        resnets: int,
        heads: int | Sequence[int],
        mid_depth: int = 1,
    ) -> None:
        """Raises ValueError for shapes that no UNet has."""
        per_level = (heads,) * len(channels) if isinstance(heads, int) else tuple(heads)
        own = {
            "channels": tuple(channels),
            "depths": tuple(depths),
            "resnets": resnets,
            "heads": per_level,
            "mid_depth": mid_depth,
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)
        if (
            not self.channels
            or not len(self.channels) == len(self.depths) == len(self.heads)
            or not all(isinstance(number, int) and number >= 0 for number in (*self.depths, mid_depth))
            or not all(isinstance(number, int) and number > 0 for number in (*self.channels, resnets, *self.heads))
        ):
            raise ValueError(f"impossible UNet shapes: {self}")

    def to_dict(self) -> dict[str, Any]:
        """As written into files. heads is one number if all levels have the same, as in files from before SDXL."""
        return {
            "channels": self.channels,
            "depths": self.depths,
            "resnets": self.resnets,
            "heads": self.heads[0] if len(set(self.heads)) == 1 else self.heads,
            "mid_depth": self.mid_depth,
        }

    @cached_property
    def layers(self) -> tuple[CrossAttention, ...]:
        """All layers in checkpoint order: down, up, mid last."""
        levels, channels = len(self.channels), self.channels
        places: list[tuple[str, Block, int, int]] = []  # name, block, level, channels that enter
        for level in range(levels):
            for resnet in range(self.resnets):
                enters = channels[level if resnet else max(level - 1, 0)]
                for depth in range(self.depths[level]):
                    # +1 for the input convolution; every level but the last ends in a downsampler with its own number.
                    number = 1 + level * (self.resnets + 1) + resnet
                    name = f"down_blocks.{level}.attentions.{resnet}.transformer_blocks.{depth}.attn2"
                    places.append((name, ("input", number, depth), level, enters))
        for up in range(levels):
            level = levels - 1 - up
            for resnet in range(self.resnets + 1):
                enters = channels[level if resnet else min(level + 1, levels - 1)]
                for depth in range(self.depths[level]):
                    name = f"up_blocks.{up}.attentions.{resnet}.transformer_blocks.{depth}.attn2"
                    places.append((name, ("output", up * (self.resnets + 1) + resnet, depth), level, enters))
        for depth in range(self.mid_depth):
            name = f"mid_block.attentions.0.transformer_blocks.{depth}.attn2"
            places.append((name, ("middle", 0, depth), levels - 1, channels[-1]))
        return tuple(
            CrossAttention(index, name, block, channels[level], self.heads[level], level, enters)
            for index, (name, block, level, enters) in enumerate(places)
        )

    @cached_property
    def execution_order(self) -> tuple[CrossAttention, ...]:
        """All layers in the order a forward pass meets them: down, mid, up."""
        stage = {"input": 0, "middle": 1, "output": 2}
        return tuple(sorted(self.layers, key=lambda layer: (stage[layer.block[0]], *layer.block[1:])))

    def mismatch(self, found: Sequence[Found]) -> str | None:
        """What differs between this layout and the layers found in a UNet; None if nothing does.

        found: all named as in diffusers or all as in ComfyUI, in any order.
        """
        by_block = bool(found) and not isinstance(found[0].name, str)
        expected = {(layer.block if by_block else layer.diffusers_name): layer for layer in self.layers}
        actual = {layer.name: layer for layer in found}
        missing = [name for name in expected if name not in actual]
        extra = [name for name in actual if name not in expected]
        if missing or extra:
            return (
                f"{len(actual)} cross-attention layers found, {len(expected)} expected"
                + (f"; missing {_some(missing)}" if missing else "")
                + (f"; not expected {_some(extra)}" if extra else "")
            )
        for name, layer in expected.items():
            if actual[name].width != layer.width:
                return f"layer {name} has width {actual[name].width}, expected {layer.width}"
            if actual[name].heads != layer.heads:
                return f"layer {name} has {actual[name].heads} attention heads, expected {layer.heads}"
        return None


def _some(names: Sequence[object], limit: int = 3) -> str:
    shown = ", ".join(str(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


SD15 = UNetLayout(channels=(320, 640, 1280, 1280), depths=(1, 1, 1, 0), resnets=2, heads=8)
"""Stable Diffusion 1.x: 16 layers."""

SDXL = UNetLayout(channels=(320, 640, 1280), depths=(0, 2, 10), resnets=2, heads=(5, 10, 20), mid_depth=10)
"""Stable Diffusion XL: 70 layers, none at the finest level."""
