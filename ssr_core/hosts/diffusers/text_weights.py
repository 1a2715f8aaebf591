"""The text projections of a UNet's cross-attentions, replaced for the length of a with-block.

LoRAs stay: their layers stand around the UNet's own ones, whose matrices alone are exchanged. Leaving the block puts back exactly the
parameters that stood there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...layout import UNetLayout
from ...shown import shown
from .attach import check_unet

_STANDING: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""By UNet, the fingerprint of what replaced its text projections."""


@contextmanager
def text_weights_replaced(
    unet: Any, layout: UNetLayout, pairs: Sequence[tuple[Tensor, Tensor]], maker: str, what: str
) -> Iterator[None]:
    """Let cross-attentions read texts with other matrices. A block within a block with the same ones changes nothing.

    pairs: of every layer in checkpoint order, for keys and values, [C, D] each; gradients pass to those that require them, whatever the
    UNet's type. maker: fingerprint of what they are of; what: that in words, as in "ELITE".
    """
    modules = check_unet(unet, layout)
    standing = _STANDING.get(unet)
    if standing is not None and standing != maker:
        raise ValueError(
            f"This UNet's texts are read by another {what} already ({shown(standing[:12])}, not {shown(maker[:12])}), and only one can "
            f"take their place. Leave its with-block first."
        )
    if standing is not None:
        yield
        return
    own = [
        (_plain(modules[layer.diffusers_name], part, what), matrix)
        for layer, pair in zip(layout.layers, pairs, strict=True)
        for part, matrix in zip(("to_k", "to_v"), pair, strict=True)
    ]
    before = [(linear, linear.weight) for linear, _ in own]
    _STANDING[unet] = maker
    try:
        for linear, matrix in own:
            _put(linear, _placed(matrix, linear.weight))
        yield
    finally:
        del _STANDING[unet]
        for linear, weight in before:
            weight.data = weight.data.to(linear.weight.device)  # the UNet may have been moved meanwhile
            _put(linear, weight)


def _plain(attention: Any, part: str, what: str) -> Any:
    """The linear layer itself, under LoRAs."""
    if getattr(attention, "fused_projections", False):
        raise ValueError(
            f"The UNet's projections are fused, so {what} cannot take their place. Call unfuse_qkv_projections() first."
        )
    linear = getattr(attention, part)
    if getattr(linear, "merged", False):
        raise ValueError(f"LoRAs are fused into the UNet, where {what} would erase them. Call unfuse_lora() first.")
    return getattr(linear, "base_layer", linear)


def _put(linear: Any, weight: Tensor) -> None:
    """A tensor that is part of a graph stands in a layer as a plain attribute, since a parameter begins a graph of its own."""
    if not isinstance(weight, nn.Parameter) or "weight" not in linear._parameters:
        del linear.weight
    linear.weight = weight


def _placed(matrix: Tensor, like: Tensor) -> Tensor:
    placed = matrix.to(like.device, like.dtype)
    if isinstance(placed, nn.Parameter) or (placed.requires_grad and torch.is_grad_enabled()):
        return placed
    return nn.Parameter(placed.detach(), requires_grad=False)
