"""Branches at a UNet's spatial cross-attentions for the length of a with-block.

Attaching puts a processor of ours before the one that stands at each of those layers, and a hook before the UNet, which tells the
processors what the batch of the call is made of. Leaving the block puts back exactly the processors that stood there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor

from ...attention import Branch, Span, add_branches, plan_spans, scaled_dot_product
from ...layout import CrossAttention, Found, UNetLayout
from ...merge import text_gate, token_gate, word_shares, words_at
from ...schedule import Manner, frame_index, frame_weights, positions_where, region_weights

KeysValues = Sequence[tuple[Tensor, Tensor]]
Rows = Sequence[int | None]
"""For every chunk of a batch the row of K and V that it attends to, or None for none."""
TIMESTEPS = 1000
"""Of the noise schedule that Stable Diffusion models were trained with; ComfyUI's percent_to_sigma counts the same ones."""

_SPATIAL = re.compile(r"(down_blocks|up_blocks|mid_block)\.(\d+\.)?attentions\.\d+\.transformer_blocks\.\d+\.attn2")


def check_unet(unet: Any, layout: UNetLayout) -> dict[str, Any]:
    """The UNet's spatial cross-attentions by name, motion modules not among them. Refuses those that are not the layout's."""
    found = {name: module for name, module in unet.named_modules() if _SPATIAL.fullmatch(name)}
    difference = layout.mismatch([Found(name, module.to_q.out_features, module.heads) for name, module in found.items()])
    if difference is not None:
        raise ValueError(
            f"This {type(unet).__name__} does not fit these weights: {difference}. Load the base model they were made for."
        )
    return found


def strength_at(manner: Manner, timestep: Any) -> float:
    """Strength of a manner in a call of the UNet. Reads the timestep from the device only if a schedule needs it."""
    if manner.steps.always_full:
        return manner.strength
    step = float(timestep.flatten()[0]) if isinstance(timestep, Tensor) else float(timestep)
    return manner.strength * manner.steps.at(min(max(1 - step / (TIMESTEPS - 1), 0.0), 1.0))


class Attachment:
    """What is attached to a UNet, and what the UNet call in progress works on.

    branches: per branch and layer (checkpoint order) K and V, each [R, N, C]; rows_of: the rows of a call's chunks, given its latents and
    text; pictures: how many different pictures the rows of one side of the guidance belong to; words: by row, the branches' word
    embeddings, [W, D] each, if positions are shared out by word, else (); places: where each branch may act, as its manner's region and
    pictures, () if all act where `manner` says; gates: [C] for every layer, the direction of its text_gate, or () for none; there: [R, N],
    which tokens the rows have, as Branch has it; said: by branch and row, the tokens of the text at which the word stands whose attention
    gates it (token_gate), or () for none.
    """

    def __init__(
        self,
        branches: Sequence[KeysValues],
        rows_of: Callable[[Tensor, Tensor], Rows],
        manner: Manner,
        words: Sequence[Sequence[Tensor]],
        pictures: int,
        places: Sequence[Manner] = (),
        gates: Sequence[Tensor] = (),
        there: Tensor | None = None,
        said: Sequence[Sequence[Sequence[int]]] = (),
    ) -> None:
        self.branches, self.rows_of, self.manner, self.words, self.pictures = branches, rows_of, manner, words, pictures
        self.places, self.gates, self.there, self.said = places, gates, there, said
        self.rows: Rows = ()
        self.spans: tuple[Span, ...] = ()
        self.strength = 0.0
        self.canvas = (0, 0)
        self._kept: dict[tuple[Any, ...], Any] = {}

    def begin(self, latents: Tensor, timestep: Any, text: Tensor) -> None:
        """A call of the UNet: latents [B, C, (F,) h, w], text [B, T, D]."""
        self.rows = self.rows_of(latents, text)
        self.spans = plan_spans(self.rows)
        height, width = latents.shape[-2:]
        self.canvas = (height, width)
        self.strength = strength_at(self.manner, timestep)

    def at(
        self,
        layer: CrossAttention,
        query: Tensor,
        to_k: Callable[[Tensor], Tensor],
        heads: int,
        own_text: Callable[[], Tensor],
        text_key: Callable[[], Tensor],
    ) -> list[Branch]:
        """What the layer attends to now. query: [B, L, C]; to_k: its own projection of text; own_text: gives its attention to the text
        alone, [B, L, C]; text_key: gives its keys of the text, [B, T, C]."""
        strength = self.strength * self.manner.in_layer(layer.index)
        if strength == 0.0:
            return []
        weighted = [self._weighted(place, layer, query) for place in self.places or [self.manner] * len(self.branches)]
        shares = self._shares(layer, query, to_k, heads, own_text, [weight for weight, _ in weighted])
        if self.said:
            shares = list(self._token_gates(query, text_key(), heads))
        branches = []
        for number, (of_layers, share, (weight, where)) in enumerate(zip(self.branches, shares, weighted, strict=True)):
            key, value = self._placed(number, layer, of_layers[layer.index], query)
            own = share if weight is None else weight if share is None else share * weight
            branches.append(Branch(key, value, strength, own, where, self.there))
        return branches

    def _placed(self, branch: int, layer: CrossAttention, pair: tuple[Tensor, Tensor], query: Tensor) -> tuple[Tensor, Tensor]:
        """K and V where the queries are, placed at the first call: an offloaded UNet is on its device only while it runs."""
        key, value = pair
        place = (query.device, query.dtype)
        return self._once(("kv", branch, layer.index, *place), lambda: (key.to(*place), value.to(*place)))

    def _weighted(self, manner: Manner, layer: CrossAttention, query: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Region and strengths of pictures as a Branch has them: weight [chunks, pictures, L, 1] and where, or None."""
        chunks, length = len(self.rows), query.shape[1]
        if manner.region is None and not manner.pictures:
            return None, None

        def make() -> tuple[Tensor, Tensor | None]:
            sides = chunks // self.pictures
            count = query.shape[0] // sides  # pictures of one side
            weights = torch.ones(count, 1, 1)
            if manner.region is not None:
                grid = self.canvas
                for _ in range(layer.level):
                    grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
                region = region_weights(manner.region, self.canvas, None, grid)  # [frames, L, 1]
                weights = weights * region[frame_index(len(region), count, None)]
            if manner.pictures:
                weights = weights * frame_weights(manner.pictures, count, None)[0]
            weights = weights.repeat(sides, 1, 1).unflatten(0, (chunks, -1))  # [chunks, pictures, 1 or L, 1]
            where = positions_where(weights, weights.shape[1], length)
            return weights.to(query.device, query.dtype), None if where is None else where.to(query.device)

        return self._once(("weight", manner, layer.level, self.canvas, chunks, query.shape[0], query.device, query.dtype), make)

    def _shares(
        self,
        layer: CrossAttention,
        query: Tensor,
        to_k: Callable[[Tensor], Tensor],
        heads: int,
        own_text: Callable[[], Tensor],
        weights: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """What part of every position each branch has, [chunks, pictures, L, 1] each; None for all of it. weights: those of regions and
        pictures. Training learns through the gates, and not through the shares (hqhQAQ/MIP-Adapter, attention_processor_multi.py)."""
        found: list[Tensor | None] = [None] * len(self.branches)
        if self.words:
            with torch.no_grad():
                found = list(self._word_shares(query, to_k, heads, self._covers(weights, query)))
        if self.gates:
            direction, text = self.gates[layer.index].to(query.device), own_text()
            with torch.autocast(query.device.type, enabled=False):
                gate = text_gate(text, direction).unflatten(0, (len(self.rows), -1))
            found = [gate if share is None else share * gate for share in found]
        return [None if share is None else share.to(query.dtype) for share in found]

    def _word_shares(self, query: Tensor, to_k: Callable[[Tensor], Tensor], heads: int, covers: Tensor | None) -> Tensor:
        """[branches, chunks, pictures, L, 1], in full precision whatever training computes in."""
        shares = []
        for chunk, (row, part) in enumerate(zip(self.rows, query.chunk(len(self.rows)), strict=True)):
            keys = [to_k(embeds.to(query.device, query.dtype))[None] for embeds in self.words[0 if row is None else row]]
            with torch.autocast(query.device.type, enabled=False):
                shares.append(word_shares(part, keys, heads, None if covers is None else covers[:, chunk]))
        return torch.stack(shares, dim=1)

    def _token_gates(self, query: Tensor, text_key: Tensor, heads: int) -> Tensor:
        """token_gate of every branch's word, [branches, chunks, pictures, L, heads]; zero in chunks that attend to no row."""
        chunks = len(self.rows)
        pictures, length = query.shape[0] // chunks, query.shape[1]
        found = query.new_zeros(len(self.branches), chunks, pictures, length, heads)
        for span in self.spans:
            rows = tuple(row for row in self.rows[span.start : span.stop] if row is not None)
            place = (text_key.shape[1], query.device)
            words = self._once(("words", rows, *place), partial(self._words, rows, *place))
            part = slice(span.start * pictures, span.stop * pictures)
            found[:, span.start : span.stop] = token_gate(query[part], text_key[part], words, heads).to(query.dtype)
        return found

    def _words(self, rows: Sequence[int], tokens: int, device: torch.device) -> Tensor:
        return words_at([[of_branch[row] for row in rows] for of_branch in self.said], tokens, device)

    def _covers(self, weights: Sequence[Tensor | None], query: Tensor) -> Tensor | None:
        """Where each branch may act at all, [branches, chunks, pictures, L or 1, 1]; None where they may all act in the same places."""
        if not self.places or all(weight is None for weight in weights):
            return None
        chunks = len(self.rows)
        everywhere = query.new_ones(chunks, query.shape[0] // chunks, 1, 1)
        whole = torch.broadcast_tensors(everywhere, *(everywhere if weight is None else weight for weight in weights))
        return torch.stack(whole[1:])

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


class BranchProcessor:
    """Processor of one cross-attention: what stood there, or the text attention itself where that was diffusers' plain one, plus the
    branches, before the layer's output projection."""

    def __init__(self, layer: CrossAttention, standing: Any, attachment: Attachment) -> None:
        self.layer, self.standing, self.attachment = layer, standing, attachment
        self.plain = type(standing) in (AttnProcessor, AttnProcessor2_0)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        ip_adapter_masks: Any = None,
    ) -> Tensor:
        """hidden_states: [B, L, C], encoder_hidden_states: [B, T, D] -> [B, L, C]."""
        if encoder_hidden_states is None or hidden_states.ndim != 3:
            raise ValueError(f"{self.layer.diffusers_name}: expected [batch, tokens, width] with text.")
        chunks = len(self.attachment.rows)
        if hidden_states.shape[0] % chunks:
            raise ValueError(f"A layer got a batch of {hidden_states.shape[0]}, which does not split into {chunks} conditions.")
        query = attn.to_q(hidden_states)  # [B, L, C]
        context = encoder_hidden_states[0] if isinstance(encoder_hidden_states, tuple) else encoder_hidden_states
        text_key = cache(lambda: attn.to_k(context))  # [B, T, C]
        own_text = cache(lambda: scaled_dot_product(query, text_key(), attn.to_v(context), attn.heads))
        branches = self.attachment.at(self.layer, query, attn.to_k, attn.heads, own_text, text_key)
        if not self.plain or attention_mask is not None or isinstance(encoder_hidden_states, tuple):
            # IP-Adapters, sliced attention and the like: the output projection is linear, so ours may pass it by itself.
            masks = {} if ip_adapter_masks is None else {"ip_adapter_masks": ip_adapter_masks}
            out = self.standing(attn, hidden_states, encoder_hidden_states, attention_mask, **masks)
            added = add_branches(torch.zeros_like(query), query, branches, self.attachment.spans, chunks, attn.heads)
            projection = attn.to_out[0]
            return out + (projection(added) - projection(torch.zeros_like(added[:1, :1]))) / attn.rescale_output_factor
        out = add_branches(own_text(), query, branches, self.attachment.spans, chunks, attn.heads)
        return attn.to_out[1](attn.to_out[0](out))


@contextmanager
def branches_attached(
    unet: Any,
    layout: UNetLayout,
    branches: Sequence[KeysValues],
    rows: Rows | Callable[[Tensor, Tensor], Rows],
    manner: Manner | None = None,
    words: Sequence[Sequence[Tensor]] = (),
    pictures: int = 1,
    places: Sequence[Manner] = (),
    gates: Sequence[Tensor] = (),
    there: Tensor | None = None,
    said: Sequence[Sequence[Sequence[int]]] = (),
) -> Iterator[None]:
    """Attach branches to a UNet for the length of a with-block. The arguments are as Attachment takes them; rows: of every call, or a
    function of its latents and text."""
    modules = check_unet(unet, layout)
    manner = manner or Manner()
    manner.check_layers(layout)
    of_call = rows if callable(rows) else lambda latents, text: rows
    attachment = Attachment(branches, of_call, manner, words, pictures, places, gates, there, said)
    before = {name: module.processor for name, module in modules.items()}
    ours = {
        layer.diffusers_name: BranchProcessor(layer, before[layer.diffusers_name], attachment)
        for layer in layout.layers
        if manner.strength * manner.in_layer(layer.index) != 0.0
    }

    def begin(_unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(modules[name].processor is not processor for name, processor in ours.items()):
            raise ValueError(
                "Attention processors of the UNet were exchanged while branches were attached, so these had no effect. Load "
                "IP-Adapters and choose attention slicing before the with-block."
            )
        named = dict(zip(("sample", "timestep", "encoder_hidden_states"), args, strict=False)) | kwargs
        attachment.begin(named["sample"], named["timestep"], named["encoder_hidden_states"])

    hook = unet.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        for name, processor in ours.items():
            modules[name].processor = processor
        yield
    finally:
        hook.remove()
        for name, processor in ours.items():
            if modules[name].processor is processor:  # not one that somebody put there meanwhile
                modules[name].processor = before[name]
