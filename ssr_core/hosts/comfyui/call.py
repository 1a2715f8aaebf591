"""One call of the UNet: which applied parts act how strongly in each of its layers, and what they add there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ...attention import Branch, add_branches, plan_spans
from ...layout import Block, CrossAttention
from ...merge import word_shares
from .applied import Applied, Attended
from .conditions import side_of_label
from .layer import Layer
from .layout import cross_attentions
from .place import Place
from .recording import record
from .run import Run


class Call:
    """strengths: that of every applied part at this step."""

    def __init__(self, run: Run, strengths: tuple[float, ...], place: Place, diffusion_model: Any) -> None:
        self.run = run
        self.strengths = strengths
        self.place = place
        self.diffusion_model = diffusion_model

    def sides(self, labels: tuple[int, ...]) -> list[int]:
        """Which side of the guidance each chunk is on: NULL or SUBJECT, which are also the rows of K and V."""
        conditions = self.place.conditions
        return [conditions.side(label) if conditions else side_of_label(label) for label in labels]

    def acting(self, site: CrossAttention) -> Iterator[tuple[int, Applied, float]]:
        """Applied parts that act in this layer now, with their numbers and strengths."""
        for number, (applied, strength) in enumerate(zip(self.run.parts, self.strengths, strict=True)):
            own = strength * applied.manner.in_layer(site.index)
            if own != 0.0:
                yield number, applied, own

    def add(self, layer: Layer) -> Tensor:
        """The layer's text attention plus the subjects': [chunks * pictures, L, C]."""
        self.run.reached = True
        if layer.query.shape[0] != self.place.batch.pictures * len(layer.labels):
            self.run.warn(
                f"another node made a batch of {layer.query.shape[0]} out of {len(layer.labels)} chunks; the subject is left out there."
            )
            return layer.text
        attended, sides = self.attended(layer), self.sides(layer.labels)
        if self.run.footprint is not None:
            record(self.run.footprint, layer, attended, sides, self.place)
        branches = [branch for one in attended for branch in one.branches]
        return add_branches(
            layer.text, layer.query, branches, plan_spans(sides), len(layer.labels), layer.heads, layer.attention
        )

    def attended(self, layer: Layer) -> list[Attended]:
        """The applied parts that act in the layer now, with K and V on the query's device and in its type."""
        firsts = [0, *accumulate(len(applied.parts) for applied in self.run.parts)]
        found = []
        for number, applied, strength in self.acting(layer.site):
            branches = []
            for branch, share in enumerate(self._shares(applied, layer)):
                pictures = applied.pictures[branch] if applied.pictures else applied.manner.pictures
                weight, where = self.place.weighted(applied.manner, pictures, layer)
                key, value = self._keys_values(applied, branch, layer)
                own = share if weight is None else weight if share is None else share * weight
                branches.append(Branch(key, value, strength, own, where))
            found.append(Attended(applied, firsts[number], tuple(branches)))
        return found

    def _keys_values(self, applied: Applied, branch: int, layer: Layer) -> tuple[Tensor, Tensor]:
        device, dtype = layer.query.device, layer.query.dtype

        def make() -> tuple[Tensor, Tensor]:
            key, value = applied.branches[branch][layer.site.index]
            return _for_gradients(key.to(device, dtype)), _for_gradients(value.to(device, dtype))

        return self.run.kept(("kv", applied, branch, layer.site.index, device, dtype), make)

    def _shares(self, applied: Applied, layer: Layer) -> Sequence[Tensor | None]:
        """What part of every position each branch of a set merged by word has, [chunks, pictures, L, 1]; None: all of it."""
        if not applied.word_embeds:
            return [None] * len(applied.branches)
        device, dtype = layer.query.device, layer.query.dtype
        embeds = self.run.kept(
            ("words", applied, device, dtype),
            lambda: [_for_gradients(words[None].to(device, dtype)) for words in applied.word_embeds],
        )  # [1, W, D] each
        # Projected at every call: LoRAs on conds and other models of one guider exchange the layer's weights within a sampling.
        to_k = self.attentions[layer.site.block].to_k
        keys = [to_k(words)[0] for words in embeds]  # [W, C] each
        shares = word_shares(layer.query, keys, layer.heads).to(dtype)  # [subjects, chunks * pictures, L, 1]
        return list(shares.unflatten(1, (len(layer.labels), -1)))

    @cached_property
    def attentions(self) -> dict[Block, Any]:
        """The UNet's own cross-attention modules."""
        return dict(cross_attentions(self.diffusion_model))


def _for_gradients(tensor: Tensor) -> Tensor:
    """What nodes made in inference mode may not be part of a gradient; where a LoRA is trained through the subjects, it is copied."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor
