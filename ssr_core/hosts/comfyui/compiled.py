"""What torch.compile sees of the subjects: one opaque operation a layer, so that the UNet stays one graph.

Nothing of a run is compiled in: the operation asks for the call in progress when it runs, so that another step or subject compiles
nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from ...layout import CrossAttention
from .call import Call
from .layer import labels_of, read_layer

SCHEMA = (
    "(Tensor query, Tensor text, Tensor own_text, Tensor text_key, int layer, int heads, SymInt[] labels, SymInt[] grid, "
    "ScalarType? precision) -> Tensor"
)

_IN_PROGRESS: ContextVar[tuple[Call, dict[str, Any]]] = ContextVar("ssr_encoder_call")


@contextmanager
def in_progress(call: Call, options: dict[str, Any]) -> Iterator[None]:
    """Make a call of the UNet, with its transformer_options, the one that compiled layers ask for."""
    token = _IN_PROGRESS.set((call, options))
    try:
        yield
    finally:
        _IN_PROGRESS.reset(token)


def _in_this_call(
    query: Tensor,
    text: Tensor,
    own_text: Tensor,
    text_key: Tensor,
    layer: int,
    heads: int,
    labels: list[int],
    grid: list[int],
    precision: torch.dtype | None,
) -> Tensor:
    call, options = _IN_PROGRESS.get()
    own = {"n_heads": heads, "cond_or_uncond": labels, "cond_or_uncond_couple": None, "attn_precision": precision}
    options = {**options, **own, **({"activations_shape": grid} if grid else {})}
    out = call.add(read_layer(call.run.parts[0].layout.layers[layer], query, text, own_text, text_key, options))
    return text.clone() if out is text else out  # an operation must not return what it was given


def _operation(tag: Any) -> Callable[..., Tensor]:
    """tag: torch's tag that keeps an operation out of CUDA graphs; None before torch 2.9, which has no such tag."""
    if tag is None:
        # A CUDA graph would replay the first call's K and V for ever. Without the tag, compilation breaks off here instead.
        return torch.compiler.disable(_in_this_call)
    operation = torch.library.custom_op("ssr_encoder::add_subjects", _in_this_call, mutates_args=(), schema=SCHEMA, tags=(tag,))
    operation.register_fake(lambda query, text, *rest: torch.empty_like(text))
    return operation


_add_subjects = _operation(getattr(torch.Tag, "cudagraph_unsafe", None))


def add_subjects(
    site: CrossAttention, query: Tensor, text: Tensor, own_text: Tensor, text_key: Tensor, options: dict[str, Any]
) -> Tensor:
    """Call.add where torch.compile traces. The tensors are as Layer has them."""
    grid, labels = list(options.get("activations_shape", ())), list(labels_of(options))
    return _add_subjects(
        query, text, own_text, text_key, site.index, options["n_heads"], labels, grid, options.get("attn_precision")
    )
