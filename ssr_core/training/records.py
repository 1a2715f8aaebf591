"""Training data: what a record is, and where records on this disk come from (jsonl, a folder of pictures). Shards: shards.py.

A line of jsonl has `file_name` and `text` (a string or a list to draw from) as in Xiaojiu-z/SSR_Encoder's example_data.jsonl: the
target is its own reference, and its text is prompt and query. A record may also name its subjects, pictures of the same subject
elsewhere: {"reference": ..., "query": ..., "mask": ...}. reference defaults to the target, query to the text, mask to none. All
of them are files in the folder of the jsonl file or below it: what leads out of it, also by a link, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from PIL import Image
from torch import Tensor

from .. import pictures
from ..shown import shown
from ..text_files import parse_json, read_lines, read_text

OUTSIDE = (
    "leads out of the folder of the data, where nothing is read: a data set may come from anybody. Move or copy the file into that "
    "folder, or put the jsonl file into a folder above both."
)


class OutsideFolder(ValueError):
    """A name or a link that leads out of the folder of the data."""


class Unfit(ValueError):
    """A sample that is whole but of no use to a method, such as one with a single object. Another one stands in for it."""


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
        return pictures.open_picture(inside(self.folder, name))

    def open_mask(self, name: str) -> Tensor:
        """[H, W] in 0..1."""
        return pictures.open_mask(inside(self.folder, name))


def read(data: str) -> Records:
    """Records of a jsonl file or a folder (its metadata.jsonl, or every picture with a .txt of the same name beside it)."""
    path = Path(data)
    if path.is_dir() and (path / "metadata.jsonl").is_file():
        path = path / "metadata.jsonl"
    if not path.exists():
        raise ValueError(f"There is no {data}. Give a jsonl file, a folder of pictures, or webdataset shards (.tar).")
    if not path.is_dir():
        records = [parse(line, f"{path}, line {number}") for number, line in read_lines(path)]
        return _some(Records(path.parent, tuple(records)), data)
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in pictures.SUFFIXES)
    records = []
    for file in found:
        text = file.with_suffix(".txt")
        if not text.is_file():
            raise ValueError(f"{file} has no text beside it; expected {text.name}, one alternative a line.")
        inside(path, text.relative_to(path).as_posix())
        records.append(described(file.relative_to(path).as_posix(), read_text(text), str(text)))
    return _some(Records(path, tuple(records)), data)


def parse(line: str, where: str) -> Record:
    """One line of a jsonl file. where: named in errors. Names that lead out of the file's folder are refused."""
    record = parse_fields(parse_json(line, where), where)
    for name in (record.name, *(name for subject in record.subjects for name in (subject.reference, subject.mask))):
        if name is not None and (PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or _leads_out(name)):
            raise ValueError(f"{where}: {shown(name)} {OUTSIDE}")
    return record


def parse_fields(fields: Any, where: str) -> Record:
    """A record as JSON has it."""
    try:
        name, texts = _word(fields["file_name"], "file_name"), _alternatives(fields["text"], "text")
        subjects = fields.get("subjects") or []
        if not isinstance(subjects, list):
            raise TypeError("subjects is no list")
        sources = tuple(
            SubjectSource(
                queries=_alternatives(subject["query"], "query") if "query" in subject else texts,
                reference=None if subject.get("reference") is None else _word(subject["reference"], "reference"),
                mask=None if subject.get("mask") is None else _word(subject["mask"], "mask"),
            )
            for subject in subjects
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{where}: not a record ({type(error).__name__}: {error}). Expected {{"file_name": "...", "text": "..."}} '
            'with optional "subjects": [{"reference": "...", "query": "...", "mask": "..."}].'
        ) from error
    return Record(name, texts, sources or (SubjectSource(queries=texts),))


def described(name: str, text: str, where: str) -> Record:
    """A picture with the text beside it, one alternative a line."""
    lines = tuple(line.strip() for line in text.split("\n") if line.strip())
    if not lines:
        raise ValueError(f"{where}: no text.")
    return Record(name, lines, (SubjectSource(queries=lines),))


def _word(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise TypeError(f"{field} is no text")
    return value


def _alternatives(text: Any, field: str) -> tuple[str, ...]:
    if isinstance(text, str):
        return (text,)
    if not isinstance(text, list) or not text or not all(isinstance(one, str | int | float) for one in text):
        raise TypeError(f"{field} is neither a text nor a list of texts")
    return tuple(str(one) for one in text)


def _some(records: Records, data: str) -> Records:
    if not records.records:
        raise ValueError(f"{data} has no records.")
    return records


def _leads_out(name: str) -> bool:
    depth = 0
    for part in PurePosixPath(name).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def inside(folder: Path, name: str) -> Path:
    """A file of the folder, links followed. Raises OutsideFolder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OutsideFolder(f"{shown(path)} {OUTSIDE}")
    return path
