"""From records to tensors: what is chosen at random for a sample, and the sample's inputs from pictures on disk or from a shard.

All random choices follow from the seed and the sample's position in the run, so that a run that is stopped and resumed, or spread over
other numbers of workers or processes, meets the same samples.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torchvision.transforms import functional as transforms

from .. import vision
from . import records
from .config import TrainingConfig
from .method import Example, Inputs, Opener
from .records import Record, Records


@dataclass(frozen=True)
class Choice:
    """What was chosen at random for one sample. chosen: by the method, for its own inputs; seed: of its noise and timestep."""

    prompt: str
    flip: bool
    chosen: Any
    seed: int


def choose(record: Record, inputs: Inputs, position: str) -> Choice:
    """position: identifies the sample within the run."""
    config = inputs.config
    rng = random.Random(f"{config.seed}/{position}")
    prompt = "" if rng.random() < config.drop_prompt else rng.choice(record.texts)
    flip = rng.random() < config.flip
    return Choice(prompt, flip, inputs.choose(record, rng), rng.getrandbits(62))


@dataclass(frozen=True)
class VisionShape:
    """size: input side of the vision model in pixels; grid: its patches a side."""

    size: int
    grid: int


def target_pixels(picture: Image.Image, size: int, flip: bool) -> Tensor:
    """Shorter side to size (bilinear), centre crop, mirrored or not: [3, size, size] in -1..1.

    So does Xiaojiu-z/SSR_Encoder's train.py.
    """
    picture = transforms.center_crop(transforms.resize(picture.convert("RGB"), size), [size, size])
    pixels = transforms.pil_to_tensor(picture).float() / 127.5 - 1
    return pixels.flip(-1) if flip else pixels


def reference_pixels(picture: Image.Image, shape: VisionShape) -> Tensor:
    """[3, size, size], normalised for the vision model."""
    return vision.normalise([vision.frame(picture.convert("RGB"), shape.size, "center crop")])[0]


def mask_patches(mask: Tensor, shape: VisionShape) -> Tensor:
    """[H, W] in 0..1 -> [grid * grid] share of each patch that is marked."""
    return vision.mask_to_patches(mask, shape.grid, shape.size, "center crop")


def read_example(opener: Opener, record: Record, choice: Choice, inputs: Inputs) -> Example:
    """A sample's inputs, pictures and texts still to be encoded: pixels [3, h, w], prompt, seed, and the method's own."""
    return {
        "pixels": target_pixels(opener.open(record.name), inputs.config.size, choice.flip),
        **inputs.read(opener, record, choice.chosen),
        "prompt": choice.prompt,
        "seed": choice.seed,
    }


def collate(examples: Sequence[Example]) -> Example:
    """Tensors stacked, words and seeds listed."""
    first = examples[0]
    return {
        name: torch.stack([example[name] for example in examples])
        if isinstance(value, Tensor)
        else [example[name] for example in examples]
        for name, value in first.items()
    }


class Reader(Protocol):
    """Turns a record of a fixed set and a choice into an example."""

    def __call__(self, record: Record, choice: Choice) -> Example: ...


@dataclass(frozen=True)
class PictureReader:
    """Reads pictures; the training step encodes them."""

    source: Records
    inputs: Inputs

    def __call__(self, record: Record, choice: Choice) -> Example:
        return read_example(self.source, record, choice, self.inputs)


class Examples(Dataset[Example]):
    """Samples by position in the run: every epoch is another shuffle of all records."""

    def __init__(self, source: Records, inputs: Inputs, reader: Reader) -> None:
        self.source, self.inputs, self.reader = source, inputs, reader
        self._order: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, position: int) -> Example:
        count = len(self.source.records)
        epoch, index = divmod(position, count)
        if self._order[0] != epoch:
            order = list(range(count))
            random.Random(f"{self.inputs.config.seed}/epoch {epoch}").shuffle(order)
            self._order = (epoch, order)
        record = self.source.records[self._order[1][index]]
        return self.reader(record, choose(record, self.inputs, str(position)))


class StreamedExamples(IterableDataset[Example]):
    """Samples from webdataset shards, which are divided among processes and workers. Skips what was consumed before `start` batches."""

    def __init__(self, inputs: Inputs, process: int, processes: int, start: int) -> None:
        self.inputs, self.start = inputs, start
        self.process, self.processes = process, processes

    def __iter__(self) -> Iterator[Example]:
        config = self.inputs.config
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # Loaders take batches from their workers in turn.
        consumed = len(range(number, self.start, workers)) * config.batch_size
        part, parts = self.process * workers + number, self.processes * workers
        count = epoch = 0
        while True:
            before = count
            for streamed in records.stream(config.data, config.seed, epoch, part, parts):
                count += 1
                if count > consumed:
                    choice = choose(streamed.record, self.inputs, f"{part} of {parts}/{count}")
                    yield read_example(streamed, streamed.record, choice, self.inputs)
            if count == before:
                raise ValueError(f"The shards of {config.data} hold no samples for reader {part + 1} of {parts}.")
            epoch += 1


def batches(config: TrainingConfig, start: int, process: int, processes: int) -> Iterator[list[int]]:
    """Endless batches of positions for one process, from its batch number `start` on.

    The processes' batches of one step are neighbours, so that they hold what one process with as large a batch would.
    """
    batch = start
    while True:
        first = (batch * processes + process) * config.batch_size
        yield list(range(first, first + config.batch_size))
        batch += 1
