"""What is no file of the SSR-Encoder, told by its keys."""

from __future__ import annotations

from collections.abc import Collection

from ... import neighbours
from ...neighbours import SSR


def kind_of(keys: Collection[str]) -> str | None:
    """What a file is by its keys; None where they say nothing, or where there are keys of an SSR-Encoder among them."""
    return neighbours.kind_of(keys, SSR)
