"""ELITE's training data: objects of Open Images V6, each a box (first stage) or a mask (second stage) in a photograph.

images/<set>/<ImageID>.jpg, segs/<set>/<mask>.png and the published lists annotations/<set>-annotations-bbox.csv and
<set>-annotations-object-segmentation.csv (the training set's boxes: oidv6-train-annotations-bbox.csv). Which objects are used is as in
csyxwei/ELITE, datasets.py; a mask's box is found in the mask itself, where they keep a list of their own. Nothing outside the folder is
read.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .. import pictures
from ..hosts.diffusers.elite import PLACEHOLDER
from ..methods.elite.mapper import Stage
from ..reference import bounds
from ..shown import shown
from ..text_files import check_regular
from .records import Unfit, inside

PARTS = ("images", "annotations")
AREA = (0.02, 0.8)
"""Share of a photograph that a box takes at least and at most."""
LEAST_SIDE, PROPORTIONS = 100, (0.5, 2.0)
"""Of a mask's box, in pixels, and height by width."""
_ID = re.compile(r"[0-9a-zA-Z]{1,64}")
_MASK = re.compile(r"([0-9a-zA-Z]{1,64})_[\w.-]{1,128}\.png")


@dataclass(frozen=True)
class ObjectRecord:
    """name: the photograph's ImageID; box: left, top, right, bottom as shares of it; mask: a file's name; one of both. texts: what a
    prompt may call the object, which is its word."""

    name: str
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None
    texts: tuple[str, ...] = (PLACEHOLDER,)


@dataclass(frozen=True)
class _Objects(Sequence[ObjectRecord]):
    """Hundreds of thousands of records, made when they are asked for. boxes: [N, 4], or [0, 4] for masks."""

    names: Sequence[str]
    boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> ObjectRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ObjectRecord]: ...
    def __getitem__(self, index: int | slice) -> ObjectRecord | Sequence[ObjectRecord]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        name = self.names[index]
        if not len(self.boxes):
            return ObjectRecord(name.partition("_")[0], mask=name)
        left, top, right, bottom = map(float, self.boxes[index])
        return ObjectRecord(name, (left, top, right, bottom))


@dataclass(frozen=True)
class OpenImages:
    """folder: with the parts above; part: the set, as "test"."""

    folder: Path
    part: str
    records: Sequence[ObjectRecord]

    def open(self, name: str) -> Image.Image:
        return pictures.open_picture(inside(self.folder, f"images/{self.part}/{name}.jpg"), upright=False)

    def open_mask(self, name: str) -> Tensor:
        """[H, W] in 0..1. Raises Unfit for an object that is too small or too long."""
        mask = pictures.open_mask(inside(self.folder, f"segs/{self.part}/{name}"))
        marked = mask.numpy() >= 0.5
        left, top, right, bottom = bounds(marked) if marked.any() else (0, 0, 0, 0)
        wide, high = right - left, bottom - top
        if min(wide, high) < LEAST_SIDE or not PROPORTIONS[0] <= high / wide <= PROPORTIONS[1]:
            raise Unfit(f"{name} marks {wide} x {high} pixels; an object has {LEAST_SIDE} a side and no side twice the other.")
        return mask


def is_open_images(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in PARTS)


def read(folder: Path, stage: Stage, part: str = "test") -> OpenImages:
    """Raises ValueError or FileNotFoundError that names what is missing or not as published."""
    if not is_open_images(folder):
        raise ValueError(f"{shown(folder)} lacks a folder; expected {', '.join(PARTS)} and segs as Open Images has them.")
    kind = "bbox" if stage == "global" else "object-segmentation"
    before = "oidv6-" if (stage, part) == ("global", "train") else ""
    path = inside(folder, f"annotations/{before}{part}-annotations-{kind}.csv")
    if not path.is_file():
        raise FileNotFoundError(f"There is no {shown(path)}. Download Open Images V6's annotations, or name another `split`.")
    names, boxes = [], []
    for number, row in _rows(path):
        where = f"{shown(path)}, line {number}"
        if stage == "local":
            names.append(_named(row, "MaskPath", _MASK, where))
            continue
        left, right, top, bottom = (_share(row, name, where) for name in ("XMin", "XMax", "YMin", "YMax"))
        if AREA[0] <= (right - left) * (bottom - top) <= AREA[1]:
            names.append(_named(row, "ImageID", _ID, where))
            boxes.append((left, top, right, bottom))
    if not names:
        raise ValueError(f"{shown(path)} lists no object of a usable size.")
    return OpenImages(folder, part, _Objects(names, np.array(boxes, np.float32).reshape(-1, 4)))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    check_regular(path)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{shown(path)} is no table as Open Images publishes it: {shown(error)}. Download it again."
            ) from error


def _named(row: dict[str, str], column: str, form: re.Pattern[str], where: str) -> str:
    name = row.get(column)
    if not isinstance(name, str) or not form.fullmatch(name):
        raise ValueError(
            f"{where}: {column} is {shown(repr(name), 60)}; expected a name as Open Images has them. Download it again."
        )
    return name


def _share(row: dict[str, str], column: str, where: str) -> float:
    text = row.get(column)
    try:
        number = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"{where}: {column} is {shown(repr(text), 60)}; expected a number from 0 to 1. Download it again.")
    return number
