"""How much memory a step of learning takes besides the models' weights, told before the first.

Counted from shapes: what autograd keeps of each block for its gradient, where weights are frozen. Convolutions and linear layers then keep
nothing; norms and activations keep what went in, attentions their queries, keys, values and output. Within a third of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...layout import UNetLayout
from .learning import ROWS_AGAIN
from .recipe import Recipe

RESNET = 2
"""Numbers that are kept of each that enters a resnet block, and of each that leaves it: before and after its norm."""
TRANSFORMER = 24
"""Of each number of a transformer block: norms 4, self-attention 4, cross-attention 2, feed-forward 14."""
TEXT_LAYER = 16
"""Of each number of a text layer: norms 2, attention 4, feed-forward 10."""
SLACK = 1.15
"""For what is made and dropped in between."""


class TextShape(NamedTuple):
    """A text encoder's."""

    width: int
    layers: int
    tokens: int = 77


class Estimate(NamedTuple):
    """Bytes that the UNet's and the text encoder's gradients take."""

    unet: int
    text: int

    @property
    def total(self) -> int:
        return self.unet + self.text

    def __str__(self) -> str:
        return (
            f"{_size(self.total)} beside the models ({_size(self.unet)} for the UNet, {_size(self.text)} for the text encoder)"
        )


def estimate(
    layout: UNetLayout, text: TextShape, side: int, recipe: Recipe, unet_bytes: int = 4, checkpointing: bool = False
) -> Estimate:
    """Of the step that takes most. side: of a picture in pixels; unet_bytes: of a number in the UNet; the text encoder has four."""
    compares = recipe.delta == "repaired"
    rows = recipe.batch * (2 if compares else 1)  # every fifth step has the pictures twice
    blocks = list(_blocks(layout, side // 8))
    if checkpointing:
        kept = sum(block.entering for block in blocks) + max(block.kept for block in blocks)
    else:
        kept = sum(block.kept for block in blocks)
    layers = sum(layer.block[2] == 0 for layer in layout.layers)
    # Static contexts alone and with phrases, and adaptive ones; a step that compares has R = 1, and two adaptive ones for a picture.
    texts = layers * recipe.batch * ((2 + max(recipe.phrases, 2)) if compares else 2)
    row = text.tokens * text.width * TEXT_LAYER * text.layers
    of_text = texts * 2 * text.tokens * text.width + min(texts, ROWS_AGAIN) * row if checkpointing else texts * row
    return Estimate(round(rows * kept * unet_bytes * SLACK), round(of_text * 4 * SLACK))


class _Block(NamedTuple):
    """Numbers of one picture: what enters, and what is kept."""

    entering: int
    kept: int


def _blocks(layout: UNetLayout, cells: int) -> Iterator[_Block]:
    """All behind the first cross-attention: gradients end there."""
    levels = len(layout.channels)
    skips = [layout.channels[0]]
    reached = False
    for level, width in enumerate(layout.channels):
        area = (cells >> level) ** 2
        for _ in range(layout.resnets):
            if reached:
                yield _resnet(skips[-1], width, area)
            reached = reached or layout.depths[level] > 0
            yield from _transformers(layout.depths[level], width, area)
            skips.append(width)
        if level < levels - 1:
            skips.append(width)
    width, area = layout.channels[-1], (cells >> levels - 1) ** 2
    yield from (_resnet(width, width, area), *_transformers(layout.mid_depth, width, area), _resnet(width, width, area))
    entering = width
    for level in reversed(range(levels)):
        width, area = layout.channels[level], (cells >> level) ** 2
        for _ in range(layout.resnets + 1):
            yield _resnet(entering + skips.pop(), width, area)
            yield from _transformers(layout.depths[level], width, area)
            entering = width


def _resnet(entering: int, leaving: int, area: int) -> _Block:
    return _Block(entering * area, RESNET * (entering + leaving) * area)


def _transformers(depth: int, width: int, area: int) -> Iterator[_Block]:
    for _ in range(depth):
        yield _Block(width * area, TRANSFORMER * width * area)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**29 else f"{count / 2**20:.0f} MB"
