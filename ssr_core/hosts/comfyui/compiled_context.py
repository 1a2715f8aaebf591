"""What torch.compile sees of the layers' contexts: one opaque operation a layer, as for branches (compiled.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor

SCHEMA = "(Tensor text, Tensor? features, Tensor? time, str stage, int number) -> Tensor"


class MakesContexts(Protocol):
    """A call of the UNet: context.ContextCall."""

    def context(self, block: tuple[str, int], text: Tensor, features: Tensor | None, time: Tensor | None) -> Tensor: ...


_IN_PROGRESS: ContextVar[MakesContexts] = ContextVar("ssr_encoder_context_call")


@contextmanager
def in_progress(call: MakesContexts) -> Iterator[None]:
    """Make a call of the UNet the one that compiled layers ask for."""
    token = _IN_PROGRESS.set(call)
    try:
        yield
    finally:
        _IN_PROGRESS.reset(token)


def _in_this_call(text: Tensor, features: Tensor | None, time: Tensor | None, stage: str, number: int) -> Tensor:
    made = _IN_PROGRESS.get().context((stage, number), text, features, time)
    return made.clone() if made is text else made  # an operation must not return what it was given


def _operation(tag: Any) -> Callable[..., Tensor]:
    """tag: torch's tag that keeps an operation out of CUDA graphs; None before torch 2.9, which has no such tag."""
    if tag is None:
        return torch.compiler.disable(_in_this_call)
    operation = torch.library.custom_op(
        "ssr_encoder::layer_context", _in_this_call, mutates_args=(), schema=SCHEMA, tags=(tag,)
    )
    operation.register_fake(lambda text, *rest: torch.empty_like(text))
    return operation


_layer_context = _operation(getattr(torch.Tag, "cudagraph_unsafe", None))


def layer_context(text: Tensor, features: Tensor | None, time: Tensor | None, block: tuple[str, int]) -> Tensor:
    """ContextCall.context where torch.compile traces."""
    return _layer_context(text, features, time, *block)
