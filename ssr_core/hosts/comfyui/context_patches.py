"""The patches, all of the host's own kinds, that note what enters a block of the UNet and give its cross-attentions their context.

They hold nothing: what was noted and who is asked stand in the transformer_options of one call (context.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ...layout import CrossAttention
from .compiled_context import layer_context

KEY = "ssr_encoder_contexts"
"""Our name in attachments and wrappers; in transformer_options it holds the run."""
CALL, NOTED = f"{KEY}_call", f"{KEY}_noted"

BlockName = tuple[str, int]
"""ComfyUI's name of a block of the UNet."""


class Asked(Protocol):
    """What the patches ask for contexts: a ContextCall, or another's."""

    @property
    def sites(self) -> Mapping[BlockName, tuple[int, CrossAttention]]: ...
    @property
    def reads_features(self) -> bool: ...
    def context(self, block: BlockName, text: Tensor, features: Tensor | None, time: Tensor | None) -> Tensor: ...


def patched(patches: dict[str, Any], call: Asked) -> dict[str, Any]:
    """The host's patches with ours: what is noted, last of all; what is given, first of all."""
    noting = {"emb_patch": note_time, "input_block_patch_after_skip": note_down, "output_block_patch": note_up}
    ours = {kind: [*patches.get(kind, ()), patch] for kind, patch in noting.items() if call.reads_features}
    return {**patches, **ours, "attn2_patch": [give, *patches.get("attn2_patch", ())]}


def note_time(time: Tensor, channels: int, options: dict[str, Any]) -> Tensor:
    options[NOTED]["time"] = time
    return time


def note_down(features: Tensor, options: dict[str, Any]) -> Tensor:
    """What leaves an input block enters the next, or the middle."""
    options[NOTED]["features"], options[NOTED]["after"] = features, options["block"]
    return features


def note_up(features: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    options[NOTED]["features"], options[NOTED]["after"] = features, options["block"]
    return features, skip


def give(query: Tensor, text: Tensor, value: Any, options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values of a cross-attention are made from the layer's context."""
    call, block = options[CALL], tuple(options["block"][:2])
    if block not in call.sites:
        return query, text, value
    noted = options[NOTED]
    features = noted.get("features") if _enters(block, noted) else None
    if torch.compiler.is_compiling():
        context = layer_context(text, features, noted.get("time"), block)
    else:
        context = call.context(block, text, features, noted.get("time"))
    return query, context, context


def _enters(block: BlockName, noted: dict[str, Any]) -> bool:
    """Whether what was noted last is what enters this block."""
    if "after" not in noted:
        return False
    stage, number = noted["after"]
    if block[0] == "output":
        return (stage, number) == block
    return stage == "input" and (block[0] == "middle" or number == block[1] - 1)
