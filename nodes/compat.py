"""One schema for both tested hosts: keywords that only the newer one knows are dropped on the older one."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from comfy_api.latest import io

RARE: dict[str, Any] = {"advanced": True} if "advanced" in inspect.signature(io.String.Input.__init__).parameters else {}
"""For a widget that few need: hosts that know such inputs fold it away."""

_KNOWN = {field.name for field in dataclasses.fields(io.Schema)}


def Schema(**fields: Any) -> io.Schema:  # node scanners look for a call named Schema
    """io.Schema without the fields that this host's version lacks."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _KNOWN})
