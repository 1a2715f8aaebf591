"""Other packs, as users have them: in the host's custom_nodes, loaded by the host itself. Absent ones skip their tests."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import comfy_host


def find(pack: str) -> Path | None:
    """The folder of a pack: by its repository's name or by the registry's way of writing it."""
    host = comfy_host.find()
    folders = sorted((host / "custom_nodes").iterdir()) if host is not None and (host / "custom_nodes").is_dir() else []
    return next((folder for folder in folders if _plain(folder.name) == _plain(pack)), None)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def needs(pack: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find(pack) is None, reason=f"{pack} is not in the host's custom_nodes")


@cache
def nodes(pack: str) -> dict[str, Any]:
    """Node classes by id, the host's own and this pack's."""
    comfy_host.started()
    import nodes as host_nodes

    folder = find(pack)
    assert folder is not None
    assert asyncio.run(host_nodes.load_custom_node(str(folder))), f"ComfyUI could not load {pack}; its log says why"
    return host_nodes.NODE_CLASS_MAPPINGS


def run(node: Any, **inputs: Any) -> tuple[Any, ...]:
    """What the executor does with one node: old style or new."""
    import torch

    with torch.inference_mode():
        result = node.execute(**inputs) if hasattr(node, "define_schema") else getattr(node(), node.FUNCTION)(**inputs)
        return getattr(result, "args", result)  # a NodeOutput or a plain tuple
