"""What a node that makes a picture shows of it on itself."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor


def pictured(node: type[io.ComfyNode], image: Tensor, text: str = "") -> dict[str, Any]:
    """A node's `ui`: image [B, H, W, 3] under its widgets, and a text where it has a view for one."""
    shown = ui.PreviewImage(image, cls=node).as_dict()
    return {**shown, "text": [text]} if text else shown
