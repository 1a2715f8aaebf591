"""Modules of our own under the host's memory management."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher


def patcher_class(disable_dynamic: bool = False) -> Any:
    """The host's ModelPatcher. Looked up at call time: hosts with dynamic VRAM swap another class in while they start."""
    plain = comfy.model_patcher.ModelPatcher
    return plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)
