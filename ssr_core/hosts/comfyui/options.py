"""What the host's transformer_options tell an attention layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.ldm.modules import attention as host_attention
from torch import Tensor


def attention_of(options: dict[str, Any]) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The host's attention with what the host itself would pass, so that precision and attention overrides hold."""

    def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        return host_attention.optimized_attention(
            query, key, value, heads, attn_precision=options.get("attn_precision"), transformer_options=options
        )

    return attention


def labels_of(options: dict[str, Any]) -> list[int]:
    """Which list of conds each chunk of a layer's batch comes from. Read at every layer: packs with regional prompts enlarge batch
    and list in the middle of a pass, or lay a list of their own beside the host's."""
    return options.get("cond_or_uncond_couple") or options["cond_or_uncond"]


def frame_indices(options: dict[str, Any]) -> tuple[int, ...] | None:
    """Which frames of the whole batch a pass works on: core context windows or AnimateDiff-Evolved's, None for all."""
    window = options.get("context_window")
    if window is not None and window.dim == 0:
        return (*anchor_of(options), *window.index_list)
    indices = (options.get("ad_params") or {}).get("sub_idxs")
    return None if indices is None else tuple(int(index) for index in indices)


def anchor_of(options: dict[str, Any]) -> tuple[int, ...]:
    """The frame before a core context window, if it is drawn along ahead of the window's own; it is thrown away afterwards."""
    anchor = getattr(options.get("context_window"), "causal_anchor_index", None)
    return () if anchor is None or anchor < 0 else (anchor,)


def cuts_pictures(options: dict[str, Any]) -> bool:
    """Whether core context windows run along the pictures' height or width instead of their frames."""
    window = options.get("context_window")
    return window is not None and window.dim >= 2
