"""Which cross-attention layers a UNet has, and what each code base calls them.

Checkpoints number the layers in diffusers' registration order (down, up, mid LAST); a UNet runs them in another order
(down, mid, up), and ComfyUI names them by block. This file is the one place that knows how the three relate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

Block = tuple[str, int, int]
"""ComfyUI's name of a transformer block: ("input" | "middle" | "output", block number, depth within the block)."""


@dataclass(frozen=True)
class CrossAttention:
    """One cross-attention (attn2) layer. width = heads * head size; index = place in the checkpoint's order; level: how often the
    latent was halved there, 0 for the finest."""

    index: int
    diffusers_name: str
    block: Block
    width: int
    heads: int
    level: int


@dataclass(frozen=True)
class UNetLayout:
    """The cross-attention layers of a Stable-Diffusion UNet, derived from the shape of its levels.

    channels: width of each level. depths: transformer blocks per attention of each level, 0 where the level has none.
    resnets: resnet blocks per down level (an up level has one more). heads: attention heads, one number for all layers.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    resnets: int
    heads: int
    mid_depth: int = 1

    def __post_init__(self) -> None:
        widths, depths = (*self.channels, self.resnets, self.heads), (*self.depths, self.mid_depth)
        if (
            len(self.channels) != len(self.depths)
            or not all(isinstance(number, int) and number >= 0 for number in depths)
            or not all(isinstance(number, int) and number > 0 for number in widths)
        ):
            raise ValueError(f"impossible UNet shapes: {self}")

    @cached_property
    def layers(self) -> tuple[CrossAttention, ...]:
        """All layers in checkpoint order: down, up, mid last."""
        levels = len(self.channels)
        places: list[tuple[str, Block, int]] = []  # name, block, level
        for level in range(levels):
            for resnet in range(self.resnets):
                for depth in range(self.depths[level]):
                    # +1 for the input convolution; every level but the last ends in a downsampler with its own number.
                    number = 1 + level * (self.resnets + 1) + resnet
                    name = f"down_blocks.{level}.attentions.{resnet}.transformer_blocks.{depth}.attn2"
                    places.append((name, ("input", number, depth), level))
        for up in range(levels):
            level = levels - 1 - up
            for resnet in range(self.resnets + 1):
                for depth in range(self.depths[level]):
                    name = f"up_blocks.{up}.attentions.{resnet}.transformer_blocks.{depth}.attn2"
                    places.append((name, ("output", up * (self.resnets + 1) + resnet, depth), level))
        for depth in range(self.mid_depth):
            name = f"mid_block.attentions.0.transformer_blocks.{depth}.attn2"
            places.append((name, ("middle", 0, depth), levels - 1))
        return tuple(
            CrossAttention(index, name, block, self.channels[level], self.heads, level)
            for index, (name, block, level) in enumerate(places)
        )

    @cached_property
    def execution_order(self) -> tuple[CrossAttention, ...]:
        """All layers in the order a forward pass meets them: down, mid, up."""
        stage = {"input": 0, "middle": 1, "output": 2}
        return tuple(sorted(self.layers, key=lambda layer: (stage[layer.block[0]], *layer.block[1:])))

    def mismatch(self, found: Sequence[tuple[str | Block, int]]) -> str | None:
        """What differs between this layout and the (name, width) pairs found in a UNet; None if nothing does.

        Names are diffusers names or ComfyUI blocks, all of one kind; their order does not matter.
        """
        by_block = bool(found) and not isinstance(found[0][0], str)
        expected = {(layer.block if by_block else layer.diffusers_name): layer.width for layer in self.layers}
        actual = dict(found)
        missing = [name for name in expected if name not in actual]
        extra = [name for name in actual if name not in expected]
        if missing or extra:
            return (
                f"{len(actual)} cross-attention layers found, {len(expected)} expected"
                + (f"; missing {_some(missing)}" if missing else "")
                + (f"; not expected {_some(extra)}" if extra else "")
            )
        for name, width in expected.items():
            if actual[name] != width:
                return f"layer {name} has width {actual[name]}, expected {width}"
        return None


def _some(names: Sequence[object], limit: int = 3) -> str:
    shown = ", ".join(str(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


SD15 = UNetLayout(channels=(320, 640, 1280, 1280), depths=(1, 1, 1, 0), resnets=2, heads=8)
"""Stable Diffusion 1.x: 16 layers. Checkpoint number of layer i is 2 i + 1 (even numbers are self-attentions)."""
