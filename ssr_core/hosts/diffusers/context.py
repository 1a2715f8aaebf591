"""A text context of its own for every layer of a UNet, for the length of a with-block.

Hooks before each block's resnet note what enters the block and the time vector; hooks before its transformer give it the context that
is made of them. Leaving the block takes the hooks away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ...layout import UNetLayout
from .attach import check_unet


class Entering(NamedTuple):
    """What enters a block, on the way up without the skip: features [B, C, h, w], and the time vector after its layers [B, T]."""

    features: Tensor
    time: Tensor


class Contexts(Protocol):
    """What makes the contexts."""

    def begin(self, timestep: Any, text: Tensor) -> None:
        """A call of the UNet begins. text: [B, T, D]."""

    def make(self, number: int, text: Tensor, entering: Entering) -> Tensor:
        """The context of a layer, [B, T, D]. number: of its block among those with cross-attention, in execution order; text: what the
        block would read without."""


@contextmanager
def contexts_attached(unet: Any, layout: UNetLayout, contexts: Contexts) -> Iterator[None]:
    """Raises ValueError for a UNet whose cross-attentions are not the layout's."""
    check_unet(unet, layout)
    first = [layer for layer in layout.execution_order if layer.block[2] == 0]
    noted: dict[int, Entering] = {}

    def begin(_unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = dict(zip(("sample", "timestep", "encoder_hidden_states"), args, strict=False)) | kwargs
        contexts.begin(named["timestep"], _text_of(named["encoder_hidden_states"]))

    def note(number: int, width: int) -> Callable[..., None]:
        def hook(_resnet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            named = dict(zip(("input_tensor", "temb"), args, strict=False)) | kwargs
            noted[number] = Entering(named["input_tensor"][:, :width], named["temb"])  # on the way up, the skip follows

        return hook

    def give(number: int) -> Callable[..., Any]:
        def hook(_transformer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            named = dict(zip(("hidden_states", "encoder_hidden_states"), args, strict=False)) | kwargs
            whole = named["encoder_hidden_states"]
            made = contexts.make(number, _text_of(whole), noted.pop(number))
            named["encoder_hidden_states"] = (made, *whole[1:]) if isinstance(whole, tuple) else made
            return (), named

        return hook

    with ExitStack() as stack:
        stack.callback(unet.register_forward_pre_hook(begin, with_kwargs=True).remove)
        for number, layer in enumerate(first):
            transformer = layer.diffusers_name.partition(".transformer_blocks")[0]
            resnet = unet.get_submodule(transformer.replace("attentions", "resnets"))
            hooks = ((resnet, note(number, layer.enters)), (unet.get_submodule(transformer), give(number)))
            for module, hook in hooks:
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _text_of(states: Any) -> Tensor:
    """An IP-Adapter's pictures lie behind the text."""
    return states[0] if isinstance(states, tuple) else states
