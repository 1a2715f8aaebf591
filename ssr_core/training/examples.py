"""From records to tensors: what is chosen at random for a sample, and the sample's inputs from pictures on disk or from a shard.

All random choices follow from the seed and the sample's position in the run, so that a run that is stopped and resumed, or spread over
other numbers of workers or processes, meets the same samples.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torchvision.transforms import functional as transforms

from .. import vision
from ..shown import shown
from . import shards
from .config import TrainingConfig
from .method import Choice, Example, Inputs, Opener, Source
from .records import OutsideFolder, Record, Unfit


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


def read_target(opener: Opener, record: Record, choice: Choice, size: int) -> Example:
    """What a sample needs of any method: pixels [3, size, size] of the record's picture, prompt and seed."""
    pixels = target_pixels(opener.open(record.name), size, choice.flip)
    return {"pixels": pixels, "prompt": choice.prompt, "seed": choice.seed}


UNREADABLE = "unreadable"
"""Under this name a sample, and a batch, carries what was wrong with those that it stands in for."""
UNFIT = "unfit"
"""Likewise what made samples of no use (records.Unfit), which is no fault of the data and has no limit but the next one."""
MOST_UNFIT = 1000
"""In a row."""
FAILED = "failed"
"""Under this name alone a batch carries why there are no more: an error that crosses processes loses its words in a traceback."""


def collate(examples: Sequence[Example]) -> Example:
    """Tensors stacked, words and seeds listed, what was unreadable together."""
    first = next((example for example in examples if FAILED in example), examples[0])
    if FAILED in first:
        return first
    return {
        name: [reason for example in examples for reason in example[name]]
        if name in (UNREADABLE, UNFIT)
        else torch.stack([example[name] for example in examples])
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

    source: Source
    inputs: Inputs

    def __call__(self, record: Record, choice: Choice) -> Example:
        return self.inputs.read(self.source, record, choice)


UNREADABLE_BY = (ValueError, FileNotFoundError, PermissionError)
"""Errors that are a sample's own fault; no memory or no file handles left are not."""


def _failed(error: Exception) -> Example:
    """An error as a batch brings it out of a worker process; raised where there is none."""
    if get_worker_info() is None:
        raise error
    return {FAILED: str(error)}


def _reason(name: str, error: Exception) -> str:
    name, words = shown(name), str(error)
    return words if name in words else f"{name}: {words}"


class Examples(Dataset[Example]):
    """Samples by position in the run: every epoch is another shuffle of all records."""

    def __init__(self, source: Source, inputs: Inputs, reader: Reader) -> None:
        self.source, self.inputs, self.reader = source, inputs, reader
        self._order: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, position: int) -> Example:
        count = len(self.source.records)
        epoch, index = divmod(position, count)
        if self._order[0] != epoch:
            order = list(range(count))
            random.Random(f"{self.inputs.config.seed}/epoch {epoch}").shuffle(order)
            self._order = (epoch, order)
        order = self._order[1]
        reasons: list[str] = []
        unfit: list[str] = []
        limit = self.inputs.config.most_unreadable
        # What cannot be read is replaced by what comes after it in the epoch: the same samples, however often a run is resumed.
        for further in range(count):
            record = self.source.records[order[(index + further) % count]]
            try:
                example = self.reader(record, choose(record, self.inputs, str(position)))
                return {**example, UNREADABLE: reasons, UNFIT: unfit}
            except OutsideFolder as error:
                return _failed(error)
            except Unfit as error:
                unfit.append(_reason(record.name, error))
            except UNREADABLE_BY as error:
                reasons.append(_reason(record.name, error))
            except OSError as error:
                return _failed(error)
            if len(reasons) > limit or len(unfit) > MOST_UNFIT:
                break
        if unfit and len(reasons) <= limit:
            return _failed(ValueError(_all_unfit(unfit)))
        return _failed(
            ValueError(
                f"{len(reasons)} samples in a row cannot be read, the last: {reasons[-1]} Mend the data, or raise "
                f"`most_unreadable` ({limit})."
            )
        )


def _all_unfit(unfit: Sequence[str]) -> str:
    return f"{len(unfit)} samples in a row are of no use, the last: {unfit[-1]} Give data of the kind that this method learns from."


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
        try:
            yield from self._samples(config.data, part, parts, consumed)
        except (ValueError, OSError) as error:
            failed = _failed(error)
            while True:  # a batch is made of as many
                yield failed

    def _samples(self, data: str, part: int, parts: int, consumed: int) -> Iterator[Example]:
        """A sample that cannot be read is replaced by the next one, which takes its position besides its own."""
        config = self.inputs.config
        count = epoch = 0
        waiting: list[tuple[int, str]] = []
        unfit: list[tuple[int, str]] = []
        while True:
            before, readable = count, 0
            for sample in shards.stream(data, config.seed, epoch, part, parts):
                count += 1
                if count <= consumed:
                    readable += 1
                    continue
                places = [place for place, _ in sorted([*waiting, *unfit])]
                try:
                    streamed = shards.Streamed(sample)
                    examples = [self._example(streamed, f"{part} of {parts}/{place}") for place in [*places, count]]
                except Unfit as error:
                    unfit.append((count, _reason(sample["__key__"], error)))
                    if len(unfit) > MOST_UNFIT:
                        raise ValueError(_all_unfit([reason for _, reason in unfit])) from error
                    continue
                except UNREADABLE_BY as error:
                    waiting.append((count, _reason(sample["__key__"], error)))
                    if len(waiting) > config.most_unreadable:
                        raise ValueError(
                            f"{len(waiting)} samples in a row cannot be read, the last: {waiting[-1][1]}"
                        ) from error
                    continue
                readable += 1
                examples[0][UNREADABLE] = [reason for _, reason in waiting]
                examples[0][UNFIT] = [reason for _, reason in unfit]
                waiting, unfit = [], []
                yield from examples
            if count == before:
                raise ValueError(f"The shards of {data} hold no samples for reader {part + 1} of {parts}.")
            if not readable:
                raise ValueError(f"No sample in the shards of {data} can be used, the last: {max([*waiting, *unfit])[1]}")
            epoch += 1

    def _example(self, streamed: shards.Streamed, position: str) -> Example:
        choice = choose(streamed.record, self.inputs, position)
        return {**self.inputs.read(streamed, streamed.record, choice), UNREADABLE: [], UNFIT: []}


def batches(config: TrainingConfig, start: int, process: int, processes: int) -> Iterator[list[int]]:
    """Endless batches of positions for one process, from its batch number `start` on.

    The processes' batches of one step are neighbours, so that they hold what one process with as large a batch would.
    """
    batch = start
    while True:
        first = (batch * processes + process) * config.batch_size
        yield list(range(first, first + config.batch_size))
        batch += 1
