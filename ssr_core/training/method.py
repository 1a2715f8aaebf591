"""What a method provides to be trained: the shared loop, data and cache use these protocols and know no method.

Inputs is light, since worker processes have it: what is chosen at random for a sample besides its prompt and its mirroring, and how
a sample is read. Method holds the models: what is trained, its loss, its pictures and its files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor, nn

from ..sheet import Labelled
from .config import TrainingConfig, ValidationPicture
from .frozen import Frozen
from .records import Record

Example = dict[str, Any]
"""A sample's inputs by name, or a batch's."""
Losses = Mapping[str, Tensor]
"""Scalars in float32 by the name they are logged under; "total" is the one that is minimised."""
Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Choice:
    """What was chosen at random for one sample. chosen: by the method, for its own inputs; seed: of its noise and timestep."""

    prompt: str
    flip: bool
    chosen: Any
    seed: int


class Opener(Protocol):
    """Where a record's pictures are: on this disk or in a shard."""

    def open(self, name: str) -> Image.Image: ...

    def open_mask(self, name: str) -> Tensor: ...


class Source(Protocol):
    """A fixed set in a fixed order; its records have at least a name and texts."""

    @property
    def records(self) -> Sequence[Any]: ...


class Inputs(Protocol):
    """Where samples are, and what a method reads of them."""

    @property
    def config(self) -> TrainingConfig: ...

    def source(self) -> Source:
        """The fixed set on this disk that the configuration names. Shards are streamed instead."""

    def choose(self, record: Record, rng: random.Random) -> Any:
        """What is chosen at random, of a type of the method's own."""

    def read(self, opener: Any, record: Any, choice: Choice) -> Example:
        """A sample, pictures and texts still to be encoded: pixels [3, h, w], prompt and seed (examples.read_target), and the method's
        own. opener: the source, or a sample of a shard.
        """


@runtime_checkable
class CacheableInputs(Inputs, Protocol):
    """Inputs whose target and references are the same at every epoch, so that they can be encoded once."""

    def references(self, records: Sequence[Record]) -> list[str]:
        """Names of all pictures whose features the cache is to hold, each once."""

    def reference_pixels(self, opener: Opener, name: str) -> Tensor:
        """One of them as Method.features takes it: [3, s, s]."""

    def texts(self, record: Record) -> Iterable[str]:
        """Every text that `choose` may ask for, besides prompts."""

    def read_cached(
        self,
        opener: Opener,
        record: Record,
        chosen: Any,
        features: Callable[[str], Tensor],
        embeds: Callable[[Sequence[str]], Tensor],
    ) -> Example:
        """The inputs as Method.encode leaves them. features: of a reference by its name; embeds: of texts, [texts, T, D]."""


class Method(Protocol):
    """A method with its models, made of its configuration and the frozen base."""

    config_class: ClassVar[type[TrainingConfig]]
    """The shared fields of a configuration and the method's own."""
    file: ClassVar[str]
    """Name of the file of trained weights in a checkpoint, without its ending."""

    module: nn.Module
    """What is trained: those of its parameters that require a gradient. Its forward pass goes through all of them, so that
    data-parallel engines see them."""

    def __init__(self, config: Any, frozen: Frozen) -> None: ...

    @property
    def config(self) -> TrainingConfig: ...

    @property
    def frozen(self) -> Frozen: ...

    @property
    def inputs(self) -> Inputs: ...

    @property
    def features_of(self) -> object:
        """What `features` depends on besides the frozen weights; its repr tells one cache from another."""

    def features(self, pixels: Tensor) -> Tensor:
        """What the cache keeps of references: [B, 3, s, s] -> [B, ...]."""

    def encode(self, batch: Example) -> Example:
        """Complete a batch whose target and prompt are encoded: whatever does not come from a cache is computed here."""

    def loss(self, module: nn.Module, batch: Example, autocast: Autocast) -> AbstractContextManager[Losses]:
        """The objective of an encoded batch. module: ours in its engine's wrapping.

        The gradients are to be computed inside the with-block: checkpointed blocks of the base run again in the backward pass, and
        must find attached what they ran with.
        """

    def validation_row(self, pipe: Any, wanted: ValidationPicture, latents: Tensor) -> list[Labelled]:
        """One row of the sheet: what was asked and what the trained weights draw from the noise `latents` [1, 4, h, w]."""

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        """Write trained weights, the module's state dict, in the method's own file format, with the configuration inside."""
