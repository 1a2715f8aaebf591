"""Training data: what a record is, and where records come from (jsonl, a folder of pictures, webdataset shards).

A line of jsonl has `file_name` and `text` (a string or a list to draw from) as in Xiaojiu-z/SSR_Encoder's example_data.jsonl: the
target is its own reference, and its text is prompt and query. A record may also name its subjects, pictures of the same subject
elsewhere: {"reference": ..., "query": ..., "mask": ...}. reference defaults to the target, query to the text, mask to none.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from .. import pictures


@dataclass(frozen=True)
class SubjectSource:
    """queries: alternatives, one is drawn each time. reference, mask: names that open() understands; None: the target, no mask."""

    queries: tuple[str, ...]
    reference: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Record:
    """name: of the target. texts: alternative prompts."""

    name: str
    texts: tuple[str, ...]
    subjects: tuple[SubjectSource, ...]


@dataclass(frozen=True)
class Records:
    """Records on this disk, in a fixed order."""

    folder: Path
    records: tuple[Record, ...]

    def open(self, name: str) -> Image.Image:
        return pictures.open_picture(self.folder / name)

    def open_mask(self, name: str) -> Tensor:
        """[H, W] in 0..1."""
        return pictures.open_mask(self.folder / name)


def read(data: str) -> Records:
    """Records of a jsonl file or a folder (its metadata.jsonl, or every picture with a .txt of the same name beside it)."""
    path = Path(data)
    if path.is_dir() and (path / "metadata.jsonl").is_file():
        path = path / "metadata.jsonl"
    if path.is_file():
        records = [parse(line, f"{path}, line {number}") for number, line in enumerate(_lines(path), 1)]
        return _some(Records(path.parent, tuple(records)), data)
    if not path.is_dir():
        raise ValueError(f"There is no {data}. Give a jsonl file, a folder of pictures, or webdataset shards (.tar).")
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in pictures.SUFFIXES)
    records = []
    for file in found:
        text = file.with_suffix(".txt")
        if not text.is_file():
            raise ValueError(f"{file} has no text beside it; expected {text.name}, one alternative a line.")
        lines = tuple(line.strip() for line in _lines(text) if line.strip())
        records.append(_record(file.relative_to(path).as_posix(), lines, (), str(text)))
    return _some(Records(path, tuple(records)), data)


def parse(line: str, where: str) -> Record:
    """One line of a jsonl file. where: named in errors."""
    try:
        fields = json.loads(line)
        name, text = fields["file_name"], fields["text"]
        subjects = fields.get("subjects", [])
        return _record(name, _alternatives(text), subjects, where)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{where}: not a record ({type(error).__name__}: {error}). Expected {{"file_name": "...", "text": "..."}} '
            'with optional "subjects": [{"reference": "...", "query": "...", "mask": "..."}].'
        ) from error


def _record(name: str, texts: tuple[str, ...], subjects: list[Mapping[str, Any]] | tuple[()], where: str) -> Record:
    if not texts:
        raise ValueError(f"{where}: no text.")
    sources = tuple(
        SubjectSource(
            queries=_alternatives(subject["query"]) if "query" in subject else texts,
            reference=subject.get("reference"),
            mask=subject.get("mask"),
        )
        for subject in subjects
    )
    return Record(name, texts, sources or (SubjectSource(queries=texts),))


def _alternatives(text: str | list[str]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(str(one) for one in text)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _some(records: Records, data: str) -> Records:
    if not records.records:
        raise ValueError(f"{data} has no records.")
    return records


def is_shards(data: str) -> bool:
    return data.removesuffix(".gz").endswith(".tar")


@dataclass(frozen=True)
class Streamed:
    """A record of a shard with its pictures in memory."""

    key: str
    record: Record
    pictures: Mapping[str, bytes]

    def open(self, name: str) -> Image.Image:
        return pictures.open_picture(*self._bytes(name))

    def open_mask(self, name: str) -> Tensor:
        """[H, W] in 0..1."""
        return pictures.open_mask(*self._bytes(name))

    def _bytes(self, name: str) -> tuple[io.BytesIO, str]:
        return io.BytesIO(self.pictures[name]), f"{name} of sample {self.key}"


def stream(data: str, seed: int, epoch: int, part: int, parts: int) -> Iterator[Streamed]:
    """Records of webdataset shards: this part's shards in the epoch's order, each from its beginning to its end.

    A sample is <key>.jpg (or another picture) with <key>.txt, or with <key>.json holding a record whose names are the sample's
    own extensions ("reference.png", "mask.png"). part: number of this reader among `parts`, one for each process and worker.
    """
    import webdataset

    urls = webdataset.shardlists.expand_urls(data)
    random.Random(f"{seed}/{epoch}").shuffle(urls)
    mine = urls[part::parts]
    if not mine:
        raise ValueError(
            f"{data} has {len(urls)} shards for {parts} readers (processes x workers); every reader needs at least one. "
            "Use fewer workers or more shards."
        )
    for sample in webdataset.WebDataset(mine, shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False):
        yield _streamed(sample)


def _streamed(sample: Mapping[str, Any]) -> Streamed:
    key = sample["__key__"]
    parts = {name: content for name, content in sample.items() if isinstance(content, bytes)}
    target = next((name for name in parts if f".{name}".lower() in pictures.SUFFIXES), None)
    if target is None:
        raise ValueError(f"Sample {key} has no picture; found {', '.join(parts)}.")
    if "json" in sample:
        fields = json.loads(sample["json"])
        return Streamed(key, parse(json.dumps({**fields, "file_name": target}), f"sample {key}"), parts)
    if "txt" not in sample:
        raise ValueError(f"Sample {key} has neither a .txt nor a .json.")
    lines = tuple(line.strip() for line in sample["txt"].decode("utf-8").splitlines() if line.strip())
    return Streamed(key, _record(target, lines, (), f"sample {key}"), parts)
