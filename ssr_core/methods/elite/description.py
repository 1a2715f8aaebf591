"""What a file of ours says about the shapes of its mappers, read as an untrusted text and held against its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from ...faults import told
from ...layout import UNetLayout
from ...shown import shown
from ...tensor_files import State
from .mapper import EliteConfig

MOST_LEVELS = 16
MOST_RESNETS = 64
"""Of a UNet that a description speaks of; real ones have 4 and 2. How many layers there are is bounded by the file's tensors."""
LARGEST_GRID = 64
"""Side of the local tokens' square: ViT-L/14 has 16."""
WIDEST = 1 << 16

_Size = Annotated[int, Field(le=1 << 31)]
"""A number in a description: of what a file can hold, none is larger."""


class _WrittenLayout(BaseModel):
    """UNetLayout in a file's metadata. heads: one number for all levels, or one for each."""

    channels: tuple[_Size, ...]
    depths: tuple[_Size, ...]
    resnets: _Size
    heads: _Size | tuple[_Size, ...]
    mid_depth: _Size = 1


class _WrittenConfig(BaseModel):
    """EliteConfig in a file's metadata. Every field is needed: a default in its place would make another ELITE."""

    layout: _WrittenLayout
    text_width: _Size
    vision_width: _Size
    hidden_width: _Size
    vision_layers: tuple[_Size, ...]
    grid: _Size


def config_of(text: str) -> EliteConfig:
    """Shapes from the JSON in a file's metadata. Raises ValueError that names the field."""
    try:
        written = _WrittenConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(told(error)) from error
    return EliteConfig(**{**dict(written), "layout": UNetLayout(**dict(written.layout))})


def config_in(metadata: Mapping[str, str], named: str) -> EliteConfig:
    """Shapes by the metadata of our own file. Raises ValueError that names it."""
    try:
        return config_of(metadata.get("config", ""))
    except ValueError as error:
        raise ValueError(f"{named}: its configuration cannot be read ({shown(error, 400)}). Convert ELITE again.") from error


def check_extent(state: State, config: EliteConfig, named: str) -> None:
    """Whether a configuration describes no more than a file can hold: layers and words by its tensors' number, widths by their sides."""
    remedy = "Download or convert it again."
    layout = config.layout
    # One spare level lets a file that lacks tensors be told which.
    most = len(state) + len(EliteConfig().layout.layers)
    described = {
        "levels": (len(layout.channels), MOST_LEVELS),
        "resnets": (layout.resnets, MOST_RESNETS),
        "layers": (sum(layout.depths) * (2 * layout.resnets + 1) + layout.mid_depth, most),
        "words": (config.words, most),
        "rows of tokens": (config.grid, LARGEST_GRID),
    }
    for what, (number, limit) in described.items():
        if number > limit:
            raise ValueError(
                f"{named} does not fit its description of {shown(number)} {what}; a file of {len(state)} tensors has at most {limit}. "
                + remedy
            )
    widest = max((side for tensor in state.values() if tensor.numel() for side in tensor.shape), default=0)
    own = max(*layout.channels, config.text_width, config.vision_width, config.hidden_width)
    if own > max(widest, WIDEST):
        raise ValueError(
            f"{named} does not fit its description with a width of {shown(own)}; its tensors are at most {widest} wide. {remedy}"
        )
    for width, heads in zip(layout.channels, layout.heads, strict=True):
        if width % heads:
            raise ValueError(f"{named}: its configuration divides a width of {width} among {shown(heads)} heads. {remedy}")
