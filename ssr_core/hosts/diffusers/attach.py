"""Branches at a UNet's spatial cross-attentions for the length of a with-block.

Attaching replaces the processors of those layers; leaving the block puts back exactly the ones that stood there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...attention import Branch, add_branches, plan_spans, scaled_dot_product
from ...layout import CrossAttention, Found, UNetLayout
from ...merge import word_shares

KeysValues = Sequence[tuple[Tensor, Tensor]]

_SPATIAL = re.compile(r"(down_blocks|up_blocks|mid_block)\.(\d+\.)?attentions\.\d+\.transformer_blocks\.\d+\.attn2")


def check_unet(unet: Any, layout: UNetLayout) -> dict[str, Any]:
    """The UNet's spatial cross-attentions by name, motion modules not among them. Refuses those that are not the layout's."""
    found = {name: module for name, module in unet.named_modules() if _SPATIAL.fullmatch(name)}
    difference = layout.mismatch([Found(name, module.to_q.out_features, module.heads) for name, module in found.items()])
    if difference is not None:
        raise ValueError(
            f"This {type(unet).__name__} does not fit the encoder: {difference}. "
            "The released SSR-Encoder works with Stable Diffusion 1.x UNets."
        )
    return found


class SubjectProcessor:
    """Attention processor of one cross-attention: text attention plus branches, before the output projection.

    rows: the row that each chunk of the batch attends to; words: for each chunk the branches' word embeddings, [W, D] each, if
    positions are divided by word, else ().
    """

    def __init__(
        self,
        layer: CrossAttention,
        branches: Sequence[Branch],
        rows: Sequence[int | None],
        words: Sequence[Sequence[Tensor]] = (),
    ) -> None:
        self.layer = layer
        self.words = words
        self.branches = tuple(branches)
        self.chunks = len(rows)
        self.spans = plan_spans(rows)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """hidden_states: [B, L, C], encoder_hidden_states: [B, T, D] -> [B, L, C]."""
        if encoder_hidden_states is None or attention_mask is not None or hidden_states.ndim != 3:
            raise ValueError(
                f"{self.layer.diffusers_name}: expected [batch, tokens, width] with text and without an attention mask."
            )
        if hidden_states.shape[0] % self.chunks:
            raise ValueError(
                f"The UNet got a batch of {hidden_states.shape[0]}, which does not split into {self.chunks} conditions. "
                "Pass guidance=False where the pipeline runs without classifier-free guidance."
            )
        query = attn.to_q(hidden_states)  # [B, L, C]
        text = scaled_dot_product(query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), attn.heads)
        branches = self._shared_out(attn, query) if self.words else self.branches
        out = add_branches(text, query, branches, self.spans, self.chunks, attn.heads)
        return attn.to_out[1](attn.to_out[0](out))

    def _shared_out(self, attn: Any, query: Tensor) -> list[Branch]:
        """The branches, each with its share of every position."""
        shares = torch.stack(
            [
                word_shares(part, [attn.to_k(embeds.to(query.device, query.dtype)) for embeds in words], attn.heads)
                for part, words in zip(query.chunk(self.chunks), self.words, strict=True)
            ],
            dim=1,
        )  # [branches, chunks, pictures, L, 1]
        return [replace(branch, weight=share) for branch, share in zip(self.branches, shares.to(query.dtype), strict=True)]


@contextmanager
def branches_attached(
    unet: Any,
    layout: UNetLayout,
    branches: Sequence[KeysValues],
    rows: Sequence[int | None],
    strength: float = 1.0,
    layer_strengths: Sequence[float] | None = None,
    words: Sequence[Sequence[Tensor]] = (),
) -> Iterator[None]:
    """Attach branches to a UNet for the length of a with-block.

    branches: for each branch and layer (checkpoint order) K and V, [rows, N, C] each; rows, words: as SubjectProcessor takes them.
    """
    modules = check_unet(unet, layout)
    before = {name: module.processor for name, module in modules.items()}
    try:
        for layer in layout.layers:
            weight = strength * (layer_strengths[layer.index] if layer_strengths is not None else 1.0)
            if weight == 0.0:
                continue
            attended = [Branch(*layers[layer.index], strength=weight) for layers in branches]
            modules[layer.diffusers_name].processor = SubjectProcessor(layer, attended, rows, words)
        yield
    finally:
        for name, module in modules.items():
            module.processor = before[name]
