"""What one sampling holds, and what one call of the UNet in it knows: who acts where and how strongly."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...attention import Branch, add_branches, plan_spans, word_shares
from ...footprint import Footprint
from ...layout import Block, CrossAttention
from ...schedule import Area, StepSchedule, frame_index, frame_weights, region_weights
from .applied import Applied
from .conditions import Conditions, row_of_label, window_of
from .layout import cross_attentions
from .options import attention_of, frame_indices, labels_of
from .recording import record

log = logging.getLogger("ssr_encoder")


class Run:
    """One sampling: what does not change from step to step, dropped when the sampling ends."""

    def __init__(self, subjects: tuple[Applied, ...], guider: Any = None, recording: bool = False) -> None:
        self.subjects = subjects
        self.guider = guider
        self.roles: set[tuple[int, ...]] = set()
        self.footprint = Footprint([part.query for applied in subjects for part in applied.parts]) if recording else None
        self.expected_in = ""
        """The UNet in whose cross-attentions the subjects should have acted, once they should have."""
        self.reached = False
        self._warned: set[str] = set()
        self._tensors: dict[tuple[Any, ...], Any] = {}

    def multipliers(self, model_sampling: Any, sigmas: Tensor) -> tuple[float, ...]:
        """Strength of every applied subject at this step. Reads the step from the device only if somebody needs it."""
        if all(applied.schedule.always_full for applied in self.subjects):
            return tuple(applied.strength for applied in self.subjects)
        sigma = float(sigmas.max())
        return tuple(applied.strength * self._at(applied.schedule, model_sampling, sigma) for applied in self.subjects)

    def _at(self, schedule: StepSchedule, model_sampling: Any, sigma: float) -> float:
        """The host's own convention: percent_to_sigma of the sampling in force now, both ends included."""
        first, last = self._kept(
            ("window", schedule.start, schedule.end, id(model_sampling)),
            lambda: [float(model_sampling.percent_to_sigma(share)) for share in (schedule.start, schedule.end)],
        )
        if not last <= sigma <= first:
            return 0.0
        if len(schedule.curve) == 1:
            return schedule.curve[0]
        progress = self._progress(model_sampling, sigma)
        return schedule.at(min(max(progress, schedule.start), schedule.end))

    def _progress(self, model_sampling: Any, sigma: float) -> float:
        """Share of the sampling at which the model sampling has this sigma: percent_to_sigma inverted by a table."""
        points = 512
        table = self._kept(
            ("progress", id(model_sampling)),
            lambda: [-float(model_sampling.percent_to_sigma(point / points)) for point in range(1, points)],
        )
        right = bisect_left(table, -sigma)
        if right == 0 or right == len(table):
            return right / points
        low, high = table[right - 1], table[right]
        return (right + (0.0 if high == low else (-sigma - low) / (high - low))) / points

    def acting(self, call: Call, layer: CrossAttention) -> Iterator[tuple[int, Applied, float]]:
        """Applied parts that act in this layer now, with their numbers and strengths."""
        for number, (applied, multiplier) in enumerate(zip(self.subjects, call.multipliers, strict=True)):
            strength = multiplier * applied.layer_strengths[layer.index]
            if strength != 0.0:
                yield number, applied, strength

    def branches(self, call: Call, layer: CrossAttention, query: Tensor, options: dict[str, Any]) -> list[Branch]:
        """What this layer attends to now, on the query's device and in its type."""
        branches = []
        for number, applied, strength in self.acting(call, layer):
            everywhere = self._weight(number, call, query, options)
            shares = self._shares(number, call, layer, query, options)
            for branch in range(len(applied.branches)):
                key, value = self._keys_values(number, branch, layer.index, query)
                weight = _product(everywhere, None if shares is None else shares[branch])
                branches.append(Branch(key, value, strength, weight))
        return branches

    def _keys_values(self, number: int, branch: int, layer: int, query: Tensor) -> tuple[Tensor, Tensor]:
        def place() -> tuple[Tensor, Tensor]:
            key, value = self.subjects[number].branches[branch][layer]
            return key.to(query.device, query.dtype), value.to(query.device, query.dtype)

        return self._kept(("kv", number, branch, layer, query.device, query.dtype), place)

    def _shares(
        self, number: int, call: Call, layer: CrossAttention, query: Tensor, options: dict[str, Any]
    ) -> list[Tensor] | None:
        """What part of every position each branch of a set merged by word has: [chunks, pictures, L, 1] each."""
        embeds = self.subjects[number].word_embeds
        if len(embeds) < 2:
            return None  # a single subject has every position whole

        def place() -> list[Tensor]:
            return [words[None].to(query.device, query.dtype) for words in embeds]  # [1, W, D] each

        # Projected at every call: LoRAs on conds and other models of one guider exchange the layer's weights within a sampling.
        to_k = call.attentions[layer.block].to_k
        keys = [to_k(words)[0] for words in self._kept(("words", number, query.device, query.dtype), place)]  # [W, C] each
        shares = word_shares(query, keys, options["n_heads"]).to(query.dtype)  # [subjects, chunks * pictures, L, 1]
        return list(shares.unflatten(1, (len(labels_of(options)), -1)))

    def _weight(self, number: int, call: Call, query: Tensor, options: dict[str, Any]) -> Tensor | None:
        """Of an applied part at every picture and position: its region and its strengths per picture."""
        applied = self.subjects[number]
        region = None if applied.region is None else self._region(number, call, query, options)
        if not applied.frame_strengths:
            return region
        labels = labels_of(options)
        pictures, frames = query.shape[0] // len(labels), frame_indices(options)

        def make() -> Tensor:
            weights = frame_weights(applied.frame_strengths, pictures, frames)  # [1, pictures, 1, 1]
            return weights.to(query.device, query.dtype).expand(len(labels), -1, 1, 1)

        key = ("frames", number, len(labels), pictures, frames, query.device, query.dtype)
        return _product(region, self._kept(key, make))

    def _region(self, number: int, call: Call, query: Tensor, options: dict[str, Any]) -> Tensor | None:
        """Weights of a region for all chunks of the batch: [chunks, 1 or pictures, L, 1], or None where none can be made."""
        labels = labels_of(options)
        pictures, canvas = query.shape[0] // len(labels), call.canvas
        grid, areas = self.grid(call, query, options), call.areas(labels, options.get("uuids", ()))
        if grid is None or areas is None:
            return None
        region = self.subjects[number].region
        assert region is not None
        # Of all frames, as a sampling may cut ever other context windows out of them.
        key = ("region", number, areas, canvas, grid, query.device, query.dtype)
        weights = self._kept(key, lambda: _make_region(region, areas, canvas, grid, query))  # [chunks, frames, L, 1]
        if len(region) == 1:
            return weights
        frames = frame_indices(options)
        index = self._kept(
            ("frame index", len(region), pictures, frames, query.device),
            lambda: frame_index(len(region), pictures, frames).to(query.device),
        )
        return weights.index_select(1, index)

    def grid(self, call: Call, query: Tensor, options: dict[str, Any]) -> tuple[int, int] | None:
        """Height and width of the layer's tokens, or None, with a warning, where they are no grid."""
        height, width = options.get("activations_shape", call.canvas)[-2:]
        if height * width == query.shape[1]:
            return height, width
        self.warn(f"a layer has {query.shape[1]} tokens for a {height} x {width} grid; its region mask is ignored.")
        return None

    def check_reached(self) -> None:
        """At the end: warn if the subjects acted nowhere. In single calls they need not; caches of steps leave the UNet out."""
        if self.expected_in and not self.reached:
            self.warn(
                f"no cross-attention of {self.expected_in} called its replacement, so the subject had no effect. Another node has "
                "probably exchanged the model's attention."
            )

    def warn(self, message: str) -> None:
        """Say it once in a sampling."""
        if message not in self._warned:
            log.warning("SSR-Encoder: %s", message)
            self._warned.add(message)

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._tensors:
            self._tensors[key] = make()
        return self._tensors[key]


def _make_region(
    region: Tensor, areas: tuple[Area | None, ...], canvas: tuple[int, int], grid: tuple[int, int], query: Tensor
) -> Tensor:
    """[frames, H, W] -> [chunks, frames, L, 1] on the query's device and in its type."""
    region = region.to(query.device)
    if len(set(areas)) == 1:
        weights = region_weights(region, canvas, areas[0], grid)  # [frames, L, 1]
        return weights.to(query.dtype).expand(len(areas), *weights.shape)
    return torch.stack([region_weights(region, canvas, area, grid) for area in areas]).to(query.dtype)


class Batch(NamedTuple):
    """What the batch of a UNet call is made of: so many tiles of so many chunks of so many pictures; frames: which ones of the whole
    animation the pictures are, None for all."""

    tiles: int
    pictures: int
    frames: tuple[int, ...] | None


def batch_of(latent: Tensor, chunks: int, conditions: Conditions | None, frames: tuple[int, ...] | None) -> Batch:
    """Packs that draw in tiles lay the chunks of one tile after those of another, and leave the list of chunks as it was."""
    tiles, rows = 1, latent.shape[0]
    if conditions is not None and _size(latent) != conditions.canvas:
        one_tile = chunks * len(_frames(conditions.latent, frames))
        tiles = rows // one_tile if rows % one_tile == 0 else 1
    return Batch(tiles, rows // (chunks * tiles), frames)


class Call:
    """One call of the UNet: who acts how strongly, and what the chunks of the batch are."""

    def __init__(
        self,
        run: Run,
        multipliers: tuple[float, ...],
        conditions: Conditions | None,
        latent: Tensor,
        batch: Batch,
        diffusion_model: Any,
    ) -> None:
        self.run = run
        self.batch = batch
        self.diffusion_model = diffusion_model
        self.multipliers = multipliers
        self.conditions = conditions
        self.latent = latent
        self.canvas = conditions.canvas if conditions else _size(latent)

    def add(self, layer: CrossAttention, text: Tensor, query: Tensor, options: dict[str, Any]) -> Tensor:
        """The layer's text attention plus the subjects'. text, query: [chunks * pictures, L, C]."""
        self.run.reached = True
        labels = labels_of(options)
        if query.shape[0] != self.batch.pictures * len(labels):
            self.run.warn(
                f"another node made a batch of {query.shape[0]} out of {len(labels)} chunks; the subject is left out there."
            )
            return text
        rows = [self.conditions.row(label) if self.conditions else row_of_label(label) for label in labels]
        branches = self.run.branches(self, layer, query, options)
        if self.run.footprint is not None:
            record(self, layer, text, query, branches, rows, options)
        return add_branches(text, query, branches, plan_spans(rows), len(labels), options["n_heads"], attention_of(options))

    @cached_property
    def attentions(self) -> dict[Block, Any]:
        """The UNet's own cross-attention modules."""
        return dict(cross_attentions(self.diffusion_model))

    def areas(self, labels: Sequence[int], uuids: Sequence[Any]) -> tuple[Area | None, ...] | None:
        """Which crop of the picture each chunk works on, None for all of it; no tuple at all where a tile cannot be found in it."""
        if self.conditions is None:
            return (None,) * len(labels)
        if not self.conditions.whole:
            self.run.warn("context windows along the picture's height or width: region masks and footprints are left out.")
            return None
        told = [self.conditions.area(*pair) for pair in zip(labels, uuids, strict=True)] if len(uuids) == len(labels) else []
        size = _size(self.latent)
        if all((area or (*self.canvas, 0, 0))[:2] == size for area in told or [None]):
            return tuple(told) or (None,) * len(labels)
        # A pack that draws in tiles calls the UNet on parts of the latent and says nothing about where they lie.
        windows = self._windows
        if any(window is None for window in windows):
            self.run.warn(
                "the UNet works on a part of the picture that is not to be found in it; region masks and footprints leave it out."
            )
            return None
        return tuple(windows[chunk * len(windows) // len(labels)] for chunk in range(len(labels)))

    @cached_property
    def _windows(self) -> list[Area | None]:
        """Where each tile of this call lies."""
        assert self.conditions is not None
        whole = _frames(self.conditions.latent, self.batch.frames)
        return [window_of(part[: whole.shape[0]], whole) for part in self.latent.chunk(self.batch.tiles)]


def _frames(latent: Tensor, frames: tuple[int, ...] | None) -> Tensor:
    """The pictures of a context window; a latent that is the window's already stays as it is."""
    return latent if frames is None or len(frames) >= latent.shape[0] else latent[list(frames)]


def _product(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one * other


def _size(latent: Tensor) -> tuple[int, int]:
    height, width = latent.shape[-2:]
    return height, width
