"""What a file of ours says about the shapes of its mappers, read as an untrusted text and held against its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from ... import weight_files
from ...faults import told
from ...shown import shown
from ...tensor_files import State
from ...weight_files import Kind, Size, WrittenLayout
from .mapper import EliteConfig

KIND = Kind("a mapper of ELITE", "Download or convert it again.")
LARGEST_GRID = 64
"""Side of the local tokens' square: ViT-L/14 has 16."""


class _WrittenConfig(BaseModel):
    """EliteConfig in a file's metadata. Every field is needed: a default in its place would make another ELITE."""

    layout: WrittenLayout
    text_width: Size
    vision_width: Size
    hidden_width: Size
    vision_layers: tuple[Size, ...]
    grid: Size


def config_of(text: str) -> EliteConfig:
    """Shapes from the JSON in a file's metadata. Raises ValueError that names the field."""
    try:
        written = _WrittenConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(told(error)) from error
    return EliteConfig(**{**dict(written), "layout": written.layout.layout()})


def config_in(metadata: Mapping[str, str], named: str) -> EliteConfig:
    """Shapes by the metadata of our own file. Raises ValueError that names it."""
    try:
        return config_of(metadata.get("config", ""))
    except ValueError as error:
        raise ValueError(f"{named}: its configuration cannot be read ({shown(error, 400)}). Convert ELITE again.") from error


def check_extent(state: State, config: EliteConfig, named: str) -> None:
    """Whether a configuration describes no more than a file can hold."""
    if config.grid > LARGEST_GRID:
        raise ValueError(
            f"{named} describes a square of {shown(config.grid)} tokens a side; at most {LARGEST_GRID} are. {KIND.remedy}"
        )
    widths = (config.text_width, config.vision_width, config.hidden_width)
    weight_files.check_extent(state, config.layout, {"words": config.words}, widths, named, KIND)
