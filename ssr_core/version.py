"""Which version of the pack this is."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "ssr-encoder"
PROJECT = Path(__file__).parent.parent / "pyproject.toml"
"""Beside the package where it runs from its own folder, as in ComfyUI; an installed one has its distribution's metadata."""


def version() -> str:
    if PROJECT.is_file():
        text = PROJECT.read_text(encoding="utf-8")
        found = re.search(r'^version = "([^"]+)"$', text, re.MULTILINE)
        if found is not None and f'name = "{DISTRIBUTION}"' in text:
            return found[1]
    return metadata.version(DISTRIBUTION)
