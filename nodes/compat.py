"""One schema for both tested hosts: keywords that only the newer one knows are dropped on the older one."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

_KNOWN = {field.name for field in dataclasses.fields(io.Schema)}


def Schema(**fields: Any) -> io.Schema:  # node scanners look for a call named Schema
    """io.Schema without the fields that this host's version lacks."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _KNOWN})
