"""Shapes of a mapper out of the names and shapes in its file: the published files say nothing else about themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...layout import UNetLayout
from ...tensor_files import Shapes
from .mapper import EliteConfig

HEADS = 8
"""Of every cross-attention of Stable Diffusion 1.x; no file of weights tells it."""
_LAYER = re.compile(
    r"(?:(?P<way>down|up)_blocks_(?P<level>\d{1,2})|mid_block)_attentions_(?P<resnet>\d{1,2})_transformer_blocks_(?P<depth>\d{1,2})_attn2"
    r"_to_k\.weight"
)


def config_of(shapes: Shapes) -> EliteConfig:
    """What a mapper with these names and shapes is made for. Raises ValueError where they tell no such thing.

    Which layers of the vision model the words come from, they do not tell: as many as published are the published ones, from others a
    description is needed.
    """
    published = EliteConfig()
    words = sum(1 for name in shapes if re.fullmatch(r"mapping_\d+\.0\.weight", name))
    if words != published.words:
        raise ValueError(
            f"its mapping networks are {words}, those of the published files {published.words}; of which layers of the vision model they "
            "are, only files with a description tell"
        )
    try:
        (hidden, vision), (text, _) = shapes["mapping_0.0.weight"], shapes["mapping_0.6.weight"]
    except (KeyError, ValueError) as error:
        raise ValueError("the matrices mapping_0.0.weight and mapping_0.6.weight are not there") from error
    return EliteConfig(_layout_of(shapes), text, vision, hidden)


def _layout_of(shapes: Mapping[str, tuple[int, ...]]) -> UNetLayout:
    """The UNet whose cross-attentions are named: levels by the ways up, which count from the coarsest; widths by the matrices."""
    found = [(match, shape) for name, shape in shapes.items() if (match := _LAYER.fullmatch(name)) and shape]
    down = [match for match, _ in found if match["way"] == "down"]
    mid = [match for match, _ in found if match["way"] is None]
    if not down or not mid:
        raise ValueError("it has no projections of the UNet's way down or of its middle")
    levels = 1 + max(int(match["level"]) for match, _ in found if match["way"])
    coarsest = next(shape[0] for match, shape in found if match["way"] is None)
    channels, depths = [coarsest] * levels, [0] * levels
    for match, shape in found:
        if match["way"] == "down":
            level = int(match["level"])
            channels[level], depths[level] = shape[0], max(depths[level], 1 + int(match["depth"]))
    resnets = 1 + max(int(match["resnet"]) for match in down)
    return UNetLayout(channels, depths, resnets, HEADS, 1 + max(int(match["depth"]) for match in mid))
