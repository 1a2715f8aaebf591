"""From records to tensors: what is drawn by lot for a sample, and the sample's inputs from pictures on disk or from a shard.

Everything drawn by lot follows from the seed and the sample's position in the run, so that a run that is stopped and resumed,
or spread over other numbers of workers or processes, meets the same samples.
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
from .records import Record, Records, SubjectSource

Example = dict[str, Any]


@dataclass(frozen=True)
class ChosenSubject:
    """source None: the unconditional subject. words: the query; masked: whether the mask is used."""

    source: SubjectSource | None
    words: str
    masked: bool


@dataclass(frozen=True)
class Choice:
    """What was drawn by lot for one sample. seed: of its noise and timestep."""

    prompt: str
    flip: bool
    subjects: tuple[ChosenSubject, ...]
    seed: int


def choose(record: Record, config: TrainingConfig, position: str) -> Choice:
    """position: identifies the sample within the run."""
    rng = random.Random(f"{config.seed}/{position}")
    prompt = "" if rng.random() < config.drop_prompt else rng.choice(record.texts)
    flip = rng.random() < config.flip
    shown = rng.sample(record.subjects, min(config.subjects, len(record.subjects)))
    subjects = [_choose_subject(source, config, rng) for source in shown]
    # Copies of a subject change nothing in a shared softmax, so they fill up a batch of equal lengths.
    subjects += [subjects[-1]] * (config.subjects - len(subjects))
    return Choice(prompt, flip, tuple(subjects), rng.getrandbits(62))


def _choose_subject(source: SubjectSource, config: TrainingConfig, rng: random.Random) -> ChosenSubject:
    dropped, masked, alone = (rng.random() < chance for chance in (config.drop_subject, config.mask_query, config.mask_alone))
    words = rng.choice(source.queries)
    if dropped:
        return ChosenSubject(None, "", False)
    if config.whole_picture:
        return ChosenSubject(source, "", False)
    masked = masked and source.mask is not None
    return ChosenSubject(source, "" if masked and alone else words, masked)


class Opener(Protocol):
    def open(self, name: str) -> Image.Image: ...

    def open_mask(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class VisionShape:
    """size: input side of the vision model in pixels; grid: its patches a side."""

    size: int
    grid: int


def target_pixels(picture: Image.Image, size: int, flip: bool) -> Tensor:
    """Shorter side to size (bilinear), centre crop, mirrored or not: [3, size, size] in -1..1 (official recipe)."""
    picture = transforms.center_crop(transforms.resize(picture.convert("RGB"), size), [size, size])
    pixels = transforms.pil_to_tensor(picture).float() / 127.5 - 1
    return pixels.flip(-1) if flip else pixels


def reference_pixels(picture: Image.Image, shape: VisionShape) -> Tensor:
    """[3, size, size], normalised for the vision model."""
    return vision.normalise([vision.frame(picture.convert("RGB"), shape.size, "center crop")])[0]


def mask_patches(mask: Tensor, shape: VisionShape) -> Tensor:
    """[H, W] in 0..1 -> [grid * grid] share of each patch that is marked."""
    return vision.mask_to_patches(mask, shape.grid, shape.size, "center crop")


def read_example(opener: Opener, record: Record, choice: Choice, config: TrainingConfig, shape: VisionShape) -> Example:
    """A sample's inputs, pictures still to be encoded:
    pixels [3, h, w], references [n, 3, s, s], masks [n, P-1], mask_weights [n, 1], prompt, queries, seed.
    """
    references, masks, weights = [], [], []
    for subject in choice.subjects:
        if subject.source is None:
            references.append(torch.zeros(3, shape.size, shape.size))
        else:
            references.append(reference_pixels(opener.open(subject.source.reference or record.name), shape))
        mask, weight = mask_of(opener, subject, config, shape)
        masks.append(mask)
        weights.append(weight)
    return {
        "pixels": target_pixels(opener.open(record.name), config.size, choice.flip),
        "references": torch.stack(references),
        "masks": torch.stack(masks),
        "mask_weights": torch.tensor(weights)[:, None],
        "prompt": choice.prompt,
        "queries": [subject.words for subject in choice.subjects],
        "seed": choice.seed,
    }


def mask_of(opener: Opener, subject: ChosenSubject, config: TrainingConfig, shape: VisionShape) -> tuple[Tensor, float]:
    """A subject's patch mask and its weight. All ones with weight 1 adds one number to all logits: it is no mask at all."""
    if not subject.masked or subject.source is None or subject.source.mask is None:
        return torch.ones(shape.grid**2), 1.0
    return mask_patches(opener.open_mask(subject.source.mask), shape), config.mask_weight


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
    config: TrainingConfig
    shape: VisionShape

    def __call__(self, record: Record, choice: Choice) -> Example:
        return read_example(self.source, record, choice, self.config, self.shape)


class Examples(Dataset[Example]):
    """Samples by position in the run: every epoch is another shuffle of all records."""

    def __init__(self, source: Records, config: TrainingConfig, reader: Reader) -> None:
        self.source, self.config, self.reader = source, config, reader
        self._order: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, position: int) -> Example:
        count = len(self.source.records)
        epoch, index = divmod(position, count)
        if self._order[0] != epoch:
            order = list(range(count))
            random.Random(f"{self.config.seed}/epoch {epoch}").shuffle(order)
            self._order = (epoch, order)
        record = self.source.records[self._order[1][index]]
        return self.reader(record, choose(record, self.config, str(position)))


class StreamedExamples(IterableDataset[Example]):
    """Samples from webdataset shards, which processes and workers share out. Skips what was consumed before `start` batches."""

    def __init__(self, config: TrainingConfig, shape: VisionShape, process: int, processes: int, start: int) -> None:
        self.config, self.shape, self.start = config, shape, start
        self.process, self.processes = process, processes

    def __iter__(self) -> Iterator[Example]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # Loaders take batches from their workers in turn.
        consumed = len(range(number, self.start, workers)) * self.config.batch_size
        part, parts = self.process * workers + number, self.processes * workers
        count = epoch = 0
        while True:
            before = count
            for streamed in records.stream(self.config.data, self.config.seed, epoch, part, parts):
                count += 1
                if count > consumed:
                    choice = choose(streamed.record, self.config, f"{part} of {parts}/{count}")
                    yield read_example(streamed, streamed.record, choice, self.config, self.shape)
            if count == before:
                raise ValueError(f"The shards of {self.config.data} hold no samples for reader {part + 1} of {parts}.")
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
