"""Gradients through the host's own modules, which stay what they are.

The host makes weights under inference mode, and autograd refuses such tensors. Here, for the length of a with-block, each is replaced by
an ordinary tensor over the same memory: no copy is made, and nothing is written to it. Afterwards the host's own tensors stand there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

RESNET, TRANSFORMER, TEXT_LAYER = "ResBlock", "BasicTransformerBlock", "CLIPLayer"
"""The host's names of the blocks that its models consist of."""


@contextmanager
def gradients_through(unet: nn.Module, text: nn.Module, checkpointing: bool = False) -> Iterator[None]:
    """Weights get no gradient. checkpointing: make what a block of the UNet computed again for its gradient, instead of keeping it."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for module in (unet, text):
            stack.enter_context(_ordinary(module))
        for layer in _of_kind(text, TEXT_LAYER):
            # Its layers add in place onto what their norms keep for the gradient, so the norms get copies.
            for norm in (layer.layer_norm1, layer.layer_norm2):
                stack.callback(norm.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:])).remove)
        if checkpointing:
            stack.enter_context(_checkpointed(unet))
        yield


def _of_kind(module: nn.Module, *kinds: str) -> list[Any]:
    return [part for part in module.modules() if type(part).__name__ in kinds]


@contextmanager
def _ordinary(module: nn.Module) -> Iterator[None]:
    replaced: list[tuple[dict[str, Any], str, Any, Any]] = []
    try:
        for part in module.modules():
            kinds: tuple[tuple[dict[str, Any], Any], ...] = ((part._parameters, _frozen), (part._buffers, _aliased))
            for own, wrap in kinds:
                for name, tensor in list(own.items()):
                    if tensor is not None and tensor.is_inference():
                        own[name] = alias = wrap(tensor)
                        replaced.append((own, name, tensor, alias))
        yield
    finally:
        for own, name, tensor, alias in replaced:
            if own.get(name) is alias:  # else the host has moved the weight meanwhile, and knows where
                own[name] = tensor


def _aliased(tensor: Tensor) -> Tensor:
    """An ordinary tensor over the same memory."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return tensor.clone()  # a quantised one, whose memory is not a plain block
    made = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return made.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(_aliased(tensor), requires_grad=False)


@contextmanager
def _checkpointed(unet: nn.Module) -> Iterator[None]:
    changed: list[Any] = []
    try:
        for part in _of_kind(unet, RESNET, TRANSFORMER):
            if "forward" not in vars(part):
                part.forward = (_again if type(part).__name__ == RESNET else _transformer_again)(part.forward)
                changed.append(part)
        yield
    finally:
        for part in changed:
            del part.forward


def _again(forward: Any) -> Any:
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return checkpointed


def _transformer_again(forward: Any) -> Any:
    """What patches make of its text is made before, once: they read what is known in the forward pass only."""
    again = _again(forward)

    def checkpointed(x: Tensor, context: Tensor | None = None, transformer_options: dict[str, Any] | None = None) -> Any:
        options = dict(transformer_options or {})  # the host goes on to write the next block's name into its own
        patches = dict(options.get("patches", {}))
        for patch in patches.pop("attn2_patch", ()):
            _, context, _ = patch(x, context, context, options)
        return again(x, context=context, transformer_options={**options, "patches": patches})

    return checkpointed
