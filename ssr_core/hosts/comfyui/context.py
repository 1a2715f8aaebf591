"""A text context of its own for every layer: made, in the middle of a UNet call, from what enters the layer's block and from the time.

Late binding, as for branches (sampling.py): two wrappers. OUTER_SAMPLE opens a run and settles what rides on the conds; APPLY_MODEL takes
the riders out and, for that call only, adds patches of the host's own kinds: three that note the time vector and what enters each block,
one that gives a cross-attention its context. Ours note last and give first, so they read what the block really gets, and other packs'
patches and replacements see the layer's context as its text. Nothing is left behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...layout import CrossAttention, UNetLayout
from ...schedule import Manner
from . import riders
from .compiled_context import in_progress
from .context_patches import CALL, KEY, NOTED, BlockName, patched
from .layer import frame_indices
from .riders import Rider
from .run import Sampling


class Entering(NamedTuple):
    """What enters a block, on the way up without the skip: features [M, C, h, w], and the time vector [M, T]."""

    features: Tensor
    time: Tensor


class Contexts(Protocol):
    """A method's part in a MODEL.

    kind: of the riders that it knows; prompt_node: makes them, as users know it; manner: how strongly what is made from features and
    time acts; what it does without is the method's.
    """

    @property
    def kind(self) -> str: ...
    @property
    def prompt_node(self) -> str: ...
    @property
    def layout(self) -> UNetLayout: ...
    @property
    def manner(self) -> Manner: ...
    @property
    def described(self) -> Sequence[str]:
        """Lines for people."""

    def refusal(self, rider: Rider) -> str | None:
        """Why it cannot serve a prompt; None if it can."""

    def make(self, layer: Layer, entering: Callable[[], Entering | None]) -> Tensor:
        """The contexts of the layer's rows, [M, T, D]. entering: asked only if it is needed; None, with a warning, where it is unknown."""


class Layer(NamedTuple):
    """A layer in a call, for the rows of one part. number: of its block among those with cross-attention, in execution order; rows: the
    riders, one for each row; strength: of what is made from its features now; like: the text of the whole batch, [B, T, D], of the device
    and type to answer in; places: which rows of it these are."""

    call: ContextCall
    number: int
    rows: tuple[Rider, ...]
    strength: float
    like: Tensor
    places: tuple[int, ...]

    @property
    def text(self) -> Tensor:
        """What these rows read without us, [M, T, D]."""
        if len(self.places) == len(self.like):
            return self.like
        return self.like[self.call.index(self.places, self.like.device)]


class ContextRun(Sampling):
    """One sampling with contexts for every layer."""

    def __init__(self, parts: tuple[Contexts, ...]) -> None:
        super().__init__()
        self.parts = parts
        self.expected_in = ""
        self.reached = False
        self._steps, self._sigma = 0, float("nan")
        self._calls: Counter[Any] = Counter()

    def part_of(self, rider: Rider) -> Contexts:
        """Raises ValueError if none can serve it."""
        return self.kept(("part", rider), lambda: _serving(self.parts, rider))

    def turn(self, sigmas: Tensor, kind: Any) -> tuple[int, Any]:
        """How many noise levels the UNet was asked about so far, and which of this level's calls of a kind this one is. Reads the level
        from the device."""
        sigma = float(sigmas.max())
        if sigma != self._sigma:
            self._steps, self._sigma = self._steps + 1, sigma
            self._calls.clear()
        self._calls[kind] += 1
        return self._steps, (kind, self._calls[kind])

    def check_reached(self) -> None:
        if self.expected_in and not self.reached:
            self.warn(
                f"no cross-attention of {self.expected_in} asked for its context, so the learned subject had no effect. Another node has "
                "probably exchanged the model's attention."
            )


def _serving(parts: Sequence[Contexts], rider: Rider) -> Contexts:
    reasons = []
    for part in parts:
        if part.kind == rider.kind:
            if (reason := part.refusal(rider)) is None:
                return part
            reasons.append(reason)
    raise ValueError(reasons[-1])


class ContextCall:
    """One call of the UNet. rows: what rides on each; place: what tells the rows from those of other calls in the same step."""

    def __init__(
        self, run: ContextRun, rows: tuple[Rider | None, ...], strengths: tuple[float, ...], sigmas: Tensor, place: Any
    ) -> None:
        self.run, self.rows, self.strengths, self.sigmas, self.place = (
            run,
            rows,
            dict(zip(run.parts, strengths, strict=True)),
            sigmas,
            place,
        )
        self._made: dict[BlockName, Tensor] = {}

    @cached_property
    def turn(self) -> tuple[int, Any]:
        """The step, and what finds the same call in another one."""
        return self.run.turn(self.sigmas, (self.rows, self.place))

    @cached_property
    def sites(self) -> dict[BlockName, tuple[int, CrossAttention]]:
        """Blocks with cross-attention: their numbers in execution order, and their first layer."""
        return sites_of(self.run.parts[0].layout)

    @cached_property
    def reads_features(self) -> bool:
        return any(
            strength and any(part.manner.in_layer(site.index) for _, site in self.sites.values())
            for part, strength in self.strengths.items()
        )

    def context(self, block: BlockName, text: Tensor, features: Tensor | None, time: Tensor | None) -> Tensor:
        """The layer's context: text [B, T, D] with the rows that have a rider replaced. Every depth of a block has the same.

        features: [B, C, h, w], what enters the block; time: [B, T']; None where they are not known.
        """
        self.run.reached = True
        if len(text) != len(self.rows):
            self.run.warn(
                f"another node made a batch of {len(text)} out of {len(self.rows)} rows; the learned subject is left out there."
            )
            return text
        if block not in self._made:
            noted = None if features is None or time is None else Entering(features, time)
            self._made = {block: self._context(block, text, noted)}
        return self._made[block]

    def _context(self, block: BlockName, text: Tensor, noted: Entering | None) -> Tensor:
        for part, rows in self._rows_of.items():
            made = self._of_part(part, rows, block, text, noted).to(text.device, text.dtype)
            text = made if len(rows) == len(text) else text.index_copy(0, self.index(rows, text.device), made)
        return text

    def _of_part(self, part: Contexts, rows: tuple[int, ...], block: BlockName, text: Tensor, noted: Entering | None) -> Tensor:
        number, site = self.sites[block]
        known = noted is not None and noted.features.shape[1] == site.enters and len(noted.features) == len(text)

        def entering() -> Entering | None:
            if noted is None or not known:
                self.run.warn(
                    f"what enters block {block} is not known, since another node runs the UNet in its own way; the learned subject is "
                    "drawn there without its adaptive part."
                )
                return None
            return self.chosen(noted, rows)

        riding = tuple(rider for row in rows if (rider := self.rows[row]) is not None)
        strength = self.strengths[part] * part.manner.in_layer(site.index)
        return part.make(Layer(self, number, riding, strength, text, rows), entering)

    def chosen(self, entering: Entering, rows: tuple[int, ...]) -> Entering:
        """Some of the rows."""
        if len(rows) == len(entering.features):
            return entering
        index = self.index(rows, entering.features.device)
        return Entering(entering.features[index], entering.time[index])

    def index(self, rows: tuple[int, ...], device: torch.device) -> Tensor:
        return self.run.kept(("rows", rows, device), lambda: torch.tensor(rows, device=device))

    @cached_property
    def _rows_of(self) -> dict[Contexts, tuple[int, ...]]:
        """Which rows each part serves."""
        found: dict[Contexts, list[int]] = {}
        for index, rider in enumerate(self.rows):
            if rider is not None:
                found.setdefault(self.run.part_of(rider), []).append(index)
        return {part: tuple(rows) for part, rows in found.items()}


def sites_of(layout: UNetLayout) -> dict[BlockName, tuple[int, CrossAttention]]:
    """Blocks with cross-attention: their numbers in execution order, and their first layer."""
    first = [layer for layer in layout.execution_order if layer.block[2] == 0]
    return {layer.block[:2]: (number, layer) for number, layer in enumerate(first)}


def hang(model: Any, part: Contexts) -> Any:
    """A clone of MODEL with one more part. MODEL itself stays as it was."""
    clone = model.clone()
    parts = (*hung_on(model), part)
    clone.set_attachments(KEY, parts)
    for kind, wrapper in {WrappersMP.OUTER_SAMPLE: open_run(parts), WrappersMP.APPLY_MODEL: bind(parts)}.items():
        clone.remove_wrappers_with_key(kind, KEY)
        clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone


def hung_on(model: Any) -> tuple[Contexts, ...]:
    return model.get_attachment(KEY) or ()


def open_run(parts: tuple[Contexts, ...]) -> Callable[..., Any]:
    """OUTER_SAMPLE: one run for one sampling. What rides on its conds is settled and checked before anything is loaded."""
    kinds = frozenset(part.kind for part in parts)

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider, run = executor.class_obj, ContextRun(parts)
        found = [rider for kind in kinds for rider in riders.settle(guider.conds, kind)]
        for rider in found:
            run.part_of(rider)
        if not found:
            nodes = " or ".join(dict.fromkeys(part.prompt_node for part in parts))
            run.warn(
                f"no prompt of this sampling brings a learned subject, so none is drawn. Make it with {nodes}, without a node behind it "
                "that mixes it into another, such as Conditioning Average."
            )
        options = guider.model_options.setdefault("transformer_options", {})  # the guider's own copy for this one sampling
        options[KEY] = run
        try:
            with riders.expected(kinds):
                result = executor(*args, **kwargs)
        finally:
            del options[KEY]
        run.check_reached()
        return result

    return outer_sample


def bind(parts: tuple[Contexts, ...]) -> Callable[..., Any]:
    """APPLY_MODEL: take the riders out, and put the patches in place for one call of the UNet."""
    kinds = sorted({part.kind for part in parts})

    def apply_model(
        executor: Any,
        latent: Tensor,
        sigmas: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        options = transformer_options or {}
        found = [riders.taken_out(kwargs, kind, latent.shape[0]) for kind in kinds]
        riding = _together([rows for rows in found if rows is not None])
        if riding is None:
            return executor(latent, sigmas, c_concat, c_crossattn, control, options, **kwargs)
        run = options.get(KEY) or ContextRun(parts)
        strengths = run.at_step([part.manner for part in parts], executor.class_obj.model_sampling, sigmas)
        place = (tuple(options.get("uuids", ())), tuple(options.get("cond_or_uncond", ())), frame_indices(options))
        call = ContextCall(run, riding, strengths, sigmas, place)
        run.expected_in = type(executor.class_obj.diffusion_model).__name__
        noted: dict[str, Any] = {}
        options = {**options, "patches": patched(options.get("patches", {}), call), CALL: call, NOTED: noted}
        try:
            with in_progress(call):
                return executor(latent, sigmas, c_concat, c_crossattn, control, options, **kwargs)
        finally:
            noted.clear()

    return apply_model


def _together(kinds: Sequence[tuple[Rider | None, ...]]) -> tuple[Rider | None, ...] | None:
    """What rides on each row, of whichever kind: a prompt comes from one node, so that a row has one rider at most."""
    if not kinds:
        return None
    return tuple(next((rider for rider in row if rider is not None), None) for row in zip(*kinds, strict=True))
