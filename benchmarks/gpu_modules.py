"""Cross-attentions of all methods for gpu.py, with torch and the pack's own modules alone, where there is no ComfyUI and no diffusers.

A call is the cross-attentions of a UNet's step, one after the other, and nothing else of it: ratios are far from those of a whole step, but
the milliseconds that a method adds are what it adds there. LASR is left out: it changes what these attend to, by a text encoder, which is
transformers' or ComfyUI's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from gpu_measure import Row
from torch import Tensor, nn

from ssr_core.attention import NULL, SUBJECT, Branch, Span, add_branches, plan_spans, scaled_dot_product
from ssr_core.layout import SD15, SDXL, CrossAttention, UNetLayout
from ssr_core.merge import text_gate, token_gate, word_shares, words_at

NAME = "cross-attentions alone"
WHOLE_STEP = False
TEXT_WIDTH = {"sd15": 768, "sdxl": 2048}
PLACE = 5
"""Of a subject's word in the text."""
BOTH, SUBJECT_ALONE = (NULL, SUBJECT), (None, 0)
"""Which rows of K and V the unconditional and the conditional chunk attend to."""

Made = Callable[["Attention", Tensor, Tensor, Tensor], list[Branch]]
"""(layer, query [B, L, C], keys of the text [B, T, C], attention to the text [B, L, C]) -> what else is attended to."""


class Attention(nn.Module):
    """A UNet's, with the projections that it has there."""

    def __init__(self, layer: CrossAttention, text_width: int) -> None:
        super().__init__()
        self.layer = layer
        self.to_q = nn.Linear(layer.width, layer.width, bias=False)
        self.to_k, self.to_v = (nn.Linear(text_width, layer.width, bias=False) for _ in range(2))
        self.to_out = nn.Linear(layer.width, layer.width)

    def forward(self, states: Tensor, text: Tensor, spans: Sequence[Span], made: Made | None) -> Tensor:
        """states: [B, L, C]; text: [B, T, D]."""
        query, key = self.to_q(states), self.to_k(text)
        out = scaled_dot_product(query, key, self.to_v(text), self.layer.heads)
        if made is not None:
            out = add_branches(out, query, made(self, query, key, out), spans, 2, self.layer.heads)
        return self.to_out(out)


class CrossAttentions(nn.Module):
    def __init__(self, layout: UNetLayout, text_width: int) -> None:
        super().__init__()
        self.layout, self.text_width = layout, text_width
        self.layers = nn.ModuleList(Attention(layer, text_width) for layer in layout.execution_order)

    def forward(self, states: dict[int, Tensor], text: Tensor, spans: Sequence[Span] = (), made: Made | None = None) -> Tensor:
        """states: by level; each layer gets what the one before it gave where that has its shape."""
        now = dict(states)
        for attention in self.layers:
            now[attention.layer.level] = attention(now[attention.layer.level], text, spans, made)
        return now[self.layout.execution_order[-1].level]


def unet(kind: str, device: torch.device, dtype: torch.dtype, width: int) -> CrossAttentions:
    """Of Stable Diffusion 1.5 or XL, or a narrower one, with random weights."""
    whole = {"sd15": SD15, "sdxl": SDXL}[kind]
    channels = [own * width // whole.channels[0] for own in whole.channels]
    heads = whole.heads if kind == "sd15" else [own // 64 for own in channels]
    layout = UNetLayout(channels, whole.depths, whole.resnets, heads, whole.mid_depth)
    with torch.device(device):
        made = CrossAttentions(layout, TEXT_WIDTH[kind])
    return made.to(dtype).requires_grad_(False).train(False)


def rows(kind: str, base: CrossAttentions, device: torch.device, dtype: torch.dtype, side: int, pictures: int) -> list[Row]:
    """The plain one first."""
    layout = base.layout
    levels = {layer.level: layer.width for layer in layout.layers}
    lengths = {level: (side // 2**level) ** 2 for level in levels}

    def like(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    text = like(2 * pictures, 77, base.text_width)
    states = {level: like(2 * pictures, lengths[level], width) for level, width in levels.items()}

    def row(name: str, rows_of: Sequence[int | None] = (), made: Made | None = None) -> Row:
        spans = plan_spans(rows_of)

        @contextmanager
        def opened() -> Iterator[Callable[[], Any]]:
            yield lambda: base(states, text, spans, made)

        return Row(name, opened)

    def pairs(sides: int, tokens: int) -> list[tuple[Tensor, Tensor]]:
        return [(like(sides, tokens, layer.width), like(sides, tokens, layer.width)) for layer in layout.layers]

    def ssr(tokens: int) -> Made:
        held = pairs(2, tokens)
        return lambda own, query, key, attended: [Branch(*held[own.layer.index], 0.65)]

    def thirds() -> Made:
        held, where, weights = [pairs(2, 462) for _ in range(3)], {}, {}
        for level, length in lengths.items():
            columns = torch.arange(length) % int(length**0.5) * 3 // int(length**0.5)  # position -> third
            for third in range(3):
                at = (columns == third).nonzero()[:, 0]
                where[level, third] = (at + length * torch.arange(pictures)[:, None]).flatten().to(device)
                weights[level, third] = (columns == third).to(device, dtype).view(1, 1, -1, 1).expand(2, -1, -1, -1)
        return lambda own, query, key, attended: [
            Branch(
                *held[third][own.layer.index], 0.65, weights[own.layer.level, third], where[own.layer.level, third]
            )
            for third in range(3)
        ]  # fmt: skip

    def mip(tokens: int) -> Made:
        held, names = [pairs(2, tokens) for _ in range(2)], [like(1, 2, base.text_width) for _ in range(2)]
        gates = [torch.randn(layer.width, device=device) for layer in layout.layers]

        def made(own: Attention, query: Tensor, key: Tensor, attended: Tensor) -> list[Branch]:
            shares = word_shares(query, [own.to_k(name) for name in names], own.layer.heads)  # [2, B, L, 1]
            shares = (shares * text_gate(attended, gates[own.layer.index])).to(query.dtype)
            return [
                Branch(*of_one[own.layer.index], 0.75, share.unflatten(0, (2, -1)))
                for of_one, share in zip(held, shares, strict=True)
            ]

        return made

    def elite() -> Made:
        held, words = pairs(1, 256), words_at([[(PLACE,)]], 77, device)

        def made(own: Attention, query: Tensor, key: Tensor, attended: Tensor) -> list[Branch]:
            gate = query.new_zeros(2, pictures, query.shape[1], own.layer.heads)
            gate[1:] = token_gate(query[pictures:], key[pictures:], words, own.layer.heads)[0].to(query.dtype)
            return [Branch(*held[own.layer.index], 0.8, gate)]

        return made

    if kind == "sdxl":
        return [row("plain"), row("MIP, two", BOTH, mip(4)), row("MIP, two of 16 tokens", BOTH, mip(16))]
    return [
        row("plain"),
        row("SSR, one", BOTH, ssr(462)),
        row("SSR, three", BOTH, ssr(3 * 462)),
        row("SSR, three in regions", BOTH, thirds()),
        row("ELITE", SUBJECT_ALONE, elite()),
    ]


@contextmanager
def compiled(base: CrossAttentions) -> Iterator[None]:
    """Its forward pass under torch.compile."""
    forward = base.forward
    base.forward = torch.compile(forward)
    try:
        yield
    finally:
        base.forward = forward
