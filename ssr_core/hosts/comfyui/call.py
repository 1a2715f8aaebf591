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
from ...merge import text_gate, word_shares
from .applied import Applied, Attended
from .conditions import side_of_label
from .layer import Layer
from .layout import cross_attentions
from .place import Place, Weighted
from .recording import record
from .run import Run
from .words import Said, WordsOfCall


class Call:
    """strengths: that of every applied part at this step; base: the host's BaseModel; words: where texts say subjects."""

    def __init__(
        self, run: Run, strengths: tuple[float, ...], place: Place, base: Any, words: WordsOfCall | None = None
    ) -> None:
        self.run = run
        self.strengths = strengths
        self.place = place
        self.base = base
        self.words = words or WordsOfCall(run, None)

    def reads_text(self, site: CrossAttention) -> bool:
        """Whether a gate in this layer goes by its own text attention."""
        return any(applied.gates for _, applied, _ in self.acting(site))

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
        attended = self.attended(layer)
        if self.run.footprint is not None:
            record(self.run.footprint, layer, attended, self.sides(layer.labels), self.place)
        by_rows: dict[tuple[int | None, ...], list[Branch]] = {}
        for one in attended:
            for branch, rows in zip(one.branches, one.rows, strict=True):
                by_rows.setdefault(rows, []).append(branch)
        out = layer.text
        for rows in sorted(by_rows, key=str):  # whatever order Apply nodes have
            spans = plan_spans(rows)
            out = add_branches(out, layer.query, by_rows[rows], spans, len(layer.labels), layer.heads, layer.attention)
        return out

    def attended(self, layer: Layer) -> list[Attended]:
        """The applied parts that act in the layer now, with K and V on the query's device and in its type."""
        firsts = [0, *accumulate(len(applied.parts) for applied in self.run.parts)]
        sides = self.sides(layer.labels)
        found = []
        for number, applied, strength in self.acting(layer.site):
            said = self.words.said(applied.words, sides, layer)
            places = [self.place.weighted(applied.place_of(branch), layer) for branch in range(len(applied.branches))]
            branches, rows = [], []
            for branch, (place, share) in enumerate(zip(places, self._shares(applied, layer, places, said), strict=True)):
                key, value = self._keys_values(applied, branch, layer)
                own = share if place.weight is None else place.weight if share is None else share * place.weight
                branches.append(Branch(key, value, strength, own, place.where))
                rows.append(_rows(sides, key.shape[0], said[branch] if said else None))
            found.append(Attended(applied, firsts[number], tuple(branches), tuple(rows)))
        return found

    def _keys_values(self, applied: Applied, branch: int, layer: Layer) -> tuple[Tensor, Tensor]:
        device, dtype = layer.query.device, layer.query.dtype

        def make() -> tuple[Tensor, Tensor]:
            key, value = applied.branches[branch][layer.site.index]
            return _for_gradients(key.to(device, dtype)), _for_gradients(value.to(device, dtype))

        return self.run.kept(("kv", applied, branch, layer.site.index, device, dtype), make)

    def _shares(
        self, applied: Applied, layer: Layer, places: Sequence[Weighted], said: Sequence[Said]
    ) -> Sequence[Tensor | None]:
        """What part of every position each branch has, [chunks, pictures, L, 1 or heads]; None: all of it. said: by the branches' words."""
        found: list[Tensor | None] = [None] * len(applied.branches)
        if applied.word_embeds:
            keys = self._word_keys(applied, layer)  # [1 or 2, W, C] each
            if keys[0].shape[0] > 1:
                sides = self.sides(layer.labels)
                keys = [torch.stack([key[side] for side in sides]) for key in keys]  # [chunks, W, C] each
            shares = word_shares(
                layer.query, keys, layer.heads, _covers(applied, places, layer)
            )  # [subjects, chunks * pictures, L, 1]
            found = list(shares.unflatten(1, (len(layer.labels), -1)))
        if applied.gates:
            gate_of_layer, device = applied.gates[layer.site.index], layer.query.device
            # In full precision, as text_gate computes: half would round it, or overflow.
            direction = self.run.kept(
                ("gate", applied, layer.site.index, device), lambda: _for_gradients(gate_of_layer.to(device))
            )
            gate = text_gate(layer.own_text, direction).unflatten(0, (len(layer.labels), -1))
            found = [gate if share is None else share * gate for share in found]
        if said:
            found = list(self.words.gates(said, layer))
        return [None if share is None else share.to(layer.query.dtype) for share in found]

    def _word_keys(self, applied: Applied, layer: Layer) -> list[Tensor]:
        """The layer's own keys of the words of every branch."""
        to_k = self.attentions[layer.site.block].to_k
        device, dtype = layer.query.device, layer.query.dtype

        def make() -> list[Tensor]:
            embeds = self._placed(("words", applied), torch.cat(_one_length(applied.word_embeds), dim=1), layer)
            return list(to_k(embeds).split([words.shape[1] for words in applied.word_embeds], dim=1))

        # LoRAs on conds exchange the layer's weights within a sampling; other models of one guider are other patchers.
        patcher = self.base.current_patcher
        if patcher is None or patcher.current_hooks is not None or torch.is_grad_enabled():
            return make()
        return self.run.kept(("word keys", applied, layer.site.index, patcher, to_k, device, dtype), make)

    def _placed(self, key: tuple[Any, ...], tensor: Tensor, layer: Layer) -> Tensor:
        """A tensor on the layer's device and in its type, once a run."""
        device, dtype = layer.query.device, layer.query.dtype
        return self.run.kept((*key, device, dtype), lambda: _for_gradients(tensor.to(device, dtype)))

    @cached_property
    def attentions(self) -> dict[Block, Any]:
        """The UNet's own cross-attention modules."""
        return dict(cross_attentions(self.base.diffusion_model))


def _covers(applied: Applied, places: Sequence[Weighted], layer: Layer) -> Tensor | None:
    """Where each branch may act at all, [branches, chunks * pictures, L or 1, 1]; None where they may all act in the same places."""
    weights = [place.weight for place in places]
    if not applied.places or all(weight is None for weight in weights):
        return None
    some = next(weight for weight in weights if weight is not None)
    everywhere = some.new_ones(len(layer.labels), layer.pictures, 1, 1)
    whole = torch.broadcast_tensors(everywhere, *(everywhere if weight is None else weight for weight in weights))
    return torch.stack(whole[1:]).flatten(1, 2)


def _rows(sides: Sequence[int], rows: int, said: Said | None) -> tuple[int | None, ...]:
    """Which row of a branch's K and V, of `rows`, each chunk attends to. said: where its word stands in the chunks' texts, if it goes by
    one."""
    if said is None:
        return tuple(sides)
    return tuple((side if rows > 1 else 0) if places else None for side, places in zip(sides, said, strict=True))


def _one_length(word_embeds: Sequence[Tensor]) -> list[Tensor]:
    """[1 or 2, W, D] each, with as many rows in all."""
    rows = max(words.shape[0] for words in word_embeds)
    return [words.expand(rows, -1, -1) for words in word_embeds]


def _for_gradients(tensor: Tensor) -> Tensor:
    """What nodes made in inference mode may not be part of a gradient; where a LoRA is trained through the subjects, it is copied."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor
