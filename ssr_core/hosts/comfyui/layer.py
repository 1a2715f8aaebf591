"""One cross-attention in one call of the UNet, as its replacement meets it: what the host's transformer_options tell, read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules import attention as host_attention
from torch import Tensor

from ...attention import AttentionFn
from ...layout import CrossAttention


@dataclass(frozen=True, eq=False)
class Layer:
    """site: which layer of the UNet's layout it is; query, text, own_text: [chunks * pictures, L, C]; text is what the layer attends to
    without us, own_text the attention to the text alone, where another pack's replacement adds to it; text_key: [chunks * pictures, T, C]

    labels: which of the sampler's cond lists each chunk comes from; uuids: of the chunks' conds, () if unknown
    frames: which frames of the whole batch the pictures are, None for all; ahead: how many of them, the first, will be thrown away
    grid: height and width of the tokens, None if unknown
    """

    site: CrossAttention
    query: Tensor
    text: Tensor
    own_text: Tensor
    text_key: Tensor
    heads: int
    labels: tuple[int, ...]
    uuids: tuple[Any, ...]
    frames: tuple[int, ...] | None
    ahead: int
    grid: tuple[int, int] | None
    attention: AttentionFn

    @property
    def pictures(self) -> int:
        return self.query.shape[0] // len(self.labels)


def read_layer(
    site: CrossAttention, query: Tensor, text: Tensor, own_text: Tensor, text_key: Tensor, options: dict[str, Any]
) -> Layer:
    shape = options.get("activations_shape")
    return Layer(
        site=site,
        query=query,
        text=text,
        own_text=own_text,
        text_key=text_key,
        heads=options["n_heads"],
        labels=labels_of(options),
        uuids=tuple(options.get("uuids", ())),
        frames=frame_indices(options),
        ahead=len(_anchor(options)),
        grid=None if shape is None else (int(shape[-2]), int(shape[-1])),
        attention=attention_of(options),
    )


def attention_of(options: dict[str, Any]) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The host's attention with what the host itself would pass, so that precision and attention overrides hold."""

    def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        return host_attention.optimized_attention(
            query, key, value, heads, attn_precision=options.get("attn_precision"), transformer_options=options
        )

    return attention


def labels_of(options: dict[str, Any]) -> tuple[int, ...]:
    """Which list of conds each chunk of a layer's batch comes from. Read at every layer: packs with regional prompts enlarge batch
    and list in the middle of a pass, or keep a list of their own beside the host's."""
    return tuple(options.get("cond_or_uncond_couple") or options["cond_or_uncond"])


def frame_indices(options: dict[str, Any]) -> tuple[int, ...] | None:
    """Which frames of the whole batch a pass works on: core context windows or AnimateDiff-Evolved's, None for all."""
    window = options.get("context_window")
    if window is not None and window.dim == 0:
        return (*_anchor(options), *window.index_list)
    indices = (options.get("ad_params") or {}).get("sub_idxs")
    return None if indices is None else tuple(int(index) for index in indices)


def _anchor(options: dict[str, Any]) -> tuple[int, ...]:
    """The frame before a core context window, if it is drawn ahead of the window's own frames. The host throws it away afterwards."""
    anchor = getattr(options.get("context_window"), "causal_anchor_index", None)
    return () if anchor is None or anchor < 0 else (anchor,)


def cuts_pictures(options: dict[str, Any]) -> bool:
    """Whether core context windows run along the pictures' height or width instead of their frames."""
    window = options.get("context_window")
    return window is not None and window.dim >= 2
