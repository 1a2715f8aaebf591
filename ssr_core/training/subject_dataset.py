"""MIP-Adapter's training data, subject_dataset_10k: pictures of SA-1B with a caption, a label map and labelled boxes each.

images/<id>.png, masks/<id>.png and jsons/<id>.json in one folder, and a list of ids. Which of a picture's objects are used, the square
that keeps all of them and the references cut out of it are as in hqhQAQ/MIP-Adapter, data/subject_dataset.py. Nothing outside the folder
is read, but for the list. The score by which the authors chose the ids was not released.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import pictures
from ..finite import finite, whole
from ..reference import Box, box_within, reference_picture
from ..shown import shown
from ..text_files import read_json, read_lines
from .pickled_list import read_texts
from .records import Unfit, inside
from .scenes import NamedObject, Scene, check_names, middle, mirrored, square

Labels = NDArray[np.int32]

AREA = (0.08, 0.7)
"""Share of the picture that an object's box takes."""
PROPORTIONS = (0.3, 3.0)
"""Its width over its height."""
LEAST_LOGIT = 0.3
MOST_LABELS = 5
"""Different values of the label map in an object's box, of which there are at least two."""
LEAST_FILLED = 0.6
"""Share of its box that the commonest value fills."""
MOST_OVERLAP = 0.8
"""Of two boxes, as a share of the smaller one."""
LEAST_AREA = 200
"""Pixels of an object's box in the target."""
LARGEST_ORIGINAL = 1 << 20
"""Side of a picture before it was stored."""
PARTS = ("images", "masks", "jsons")


@dataclass(frozen=True)
class Labelled:
    """One entry of final_masks: box in pixels of the stored picture, (left, top, right, bottom)."""

    label: str
    logit: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Description:
    """What jsons/<id>.json says. original_size: (width, height) of the picture in SA-1B."""

    caption: str
    original_size: tuple[int, int]
    labelled: tuple[Labelled, ...]


@dataclass(frozen=True)
class SubjectRecord:
    """A sample by its id. Its description is read when it is asked for, and kept."""

    folder: Path
    name: str

    @cached_property
    def description(self) -> Description:
        path = inside(self.folder, f"jsons/{self.name}.json")
        return _described(read_json(path), shown(path))

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.description.caption,)


@dataclass(frozen=True)
class SubjectFolder:
    """The data set, in the order of its list."""

    folder: Path
    records: tuple[SubjectRecord, ...]

    def scene(self, record: SubjectRecord, rng: random.Random, size: int, count: int = 2, flip: float = 0.5) -> Scene:
        """A target of size x size with `count` objects, best logit first. flip: chance that a reference is mirrored.

        Raises ValueError or FileNotFoundError that names the file, and Unfit where too few objects pass.
        """
        described = record.description
        picture = pictures.open_picture(inside(self.folder, f"images/{record.name}.png"), upright=False)
        map_file = inside(self.folder, f"masks/{record.name}.png")
        labels = pictures.open_labels(map_file)
        if labels.shape != (picture.height, picture.width):
            raise ValueError(
                f"{shown(map_file)} is {labels.shape[1]} x {labels.shape[0]} pixels, its picture {picture.width} x {picture.height}; "
                "expected one label for each pixel."
            )
        chosen = usable(described, labels)
        corner = square_of_all([one.box for one in described.labelled], picture, rng)
        target, seen = square(picture, corner, size), _square_of(labels, corner, size)
        objects: list[NamedObject] = []
        for one in chosen:
            box = _in_square(one.box, corner, min(picture.size), size)
            if len(objects) < count and box is not None:
                reference = reference_picture(target, seen == _commonest(seen, box), box)
                objects.append(NamedObject(one.label, mirrored(reference, rng, flip)))
        if len(objects) < count:
            raise Unfit(f"{record.name} has {len(objects)} of the {count} usable objects that a sample needs.")
        check_names(record.name, objects)
        width, height = described.original_size
        return Scene(target, described.caption, (height, width), corner, tuple(objects))


def is_subject_dataset(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in PARTS)


def read(folder: Path, ids: Path | None = None) -> SubjectFolder:
    """ids: the list, as the authors pickled it or as text, one id a line; by default the one .pkl file in the folder, else every file
    in jsons/. Raises ValueError or FileNotFoundError that says what is missing.
    """
    if not is_subject_dataset(folder):
        raise ValueError(f"{shown(folder)} lacks a folder; expected {', '.join(PARTS)} as in subject_dataset_10k.")
    listed = sorted(folder.glob("*.pkl")) if ids is None else [ids]
    if len(listed) > 1:
        raise ValueError(
            f"{shown(folder)} has {len(listed)} lists of ids, among them {shown(listed[0].name)}. Name the one to use."
        )
    where = shown(listed[0]) if listed else shown(folder / "jsons")
    if not listed:
        names = sorted(path.stem for path in (folder / "jsons").glob("*.json"))
    else:
        path = listed[0] if ids is not None else inside(folder, listed[0].name)
        is_text = path.suffix.lower() == ".txt"
        names = [line.strip() for _, line in read_lines(path)] if is_text else read_texts(path)
    for name in names:
        if not re.fullmatch(r"\w[\w.-]{0,127}", name):
            raise ValueError(
                f"{where}: {shown(name)!r} is no id; expected letters, digits, _, - and full stops, such as sa_1976914."
            )
    if not names:
        raise ValueError(f"{where} has no ids.")
    return SubjectFolder(folder, tuple(SubjectRecord(folder, name) for name in names))


def usable(described: Description, labels: Labels) -> list[Labelled]:
    """The objects that training may use, best logit first: hqhQAQ/MIP-Adapter, data/subject_dataset.py, verify_keys.

    Their label is one word that the caption holds, if only as a part of another.
    """
    height, width = labels.shape
    kept: list[Labelled] = []
    for one in sorted(described.labelled, key=lambda one: -one.logit):
        left, top, right, bottom = one.box
        wide, high = right - left, bottom - top
        if (
            high > 0
            and AREA[0] < wide * high / (width * height) < AREA[1]
            and PROPORTIONS[0] < wide / high < PROPORTIONS[1]
            and one.logit > LEAST_LOGIT
            and " " not in one.label
            and one.label in described.caption
            and _fills(labels, one.box)
            and all(_overlap(other.box, one.box) <= MOST_OVERLAP for other in kept)
        ):
            kept.append(one)
    return kept


def square_of_all(boxes: Sequence[Sequence[float]], picture: Image.Image, rng: random.Random) -> tuple[int, int]:
    """(top, left) of a random square as wide as the shorter side that holds all boxes, else of the one in the middle."""
    width, height = picture.size
    side = min(width, height)
    lefts, tops, rights, bottoms = (
        (list(map(int, sides)) for sides in zip(*boxes, strict=True)) if boxes else ([0], [0], [0], [0])
    )
    across = max(0, max(rights) - side), min(min(lefts), width - side)
    down = max(0, max(bottoms) - side), min(min(tops), height - side)
    if across[0] > across[1] or down[0] > down[1]:
        return middle(picture)
    left = rng.randint(*across)
    return rng.randint(*down), left


def _fills(labels: Labels, box: Sequence[float]) -> bool:
    """Whether one thing fills the box, and does not go on beyond it."""
    left, top, right, bottom = box
    within = box_within(box, (labels.shape[1], labels.shape[0]))
    values, counts = np.unique(labels[within[1] : within[3], within[0] : within[2]], return_counts=True)
    if not 2 <= len(values) <= MOST_LABELS:
        return False
    area = (right - left) * (bottom - top)
    thing = values[1:][counts[1:].argmax()]
    return bool(counts.max() / area >= LEAST_FILLED and (labels == thing).sum() <= area)


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Common area as a share of the smaller box."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))


def _square_of(labels: Labels, corner: tuple[int, int], size: int) -> Labels:
    """The labels of scenes.square: [size, size], each the nearest one."""
    (top, left), side = corner, min(labels.shape)
    nearest = ((np.arange(size) + 0.5) * side / size).astype(np.int64)
    return labels[top : top + side, left : left + side][nearest[:, None], nearest[None, :]]


def _in_square(box: Sequence[float], corner: tuple[int, int], side: int, size: int) -> Box | None:
    """The box in pixels of the target; None where too little of it is there, or its shape is none."""
    top, left = corner
    shifts = (left, top, left, top)
    scaled = [min(max(int(edge) - shift, 0), side) * size / side for edge, shift in zip(box, shifts, strict=True)]
    found = (round(scaled[0]), round(scaled[1]), round(scaled[2]), round(scaled[3]))
    wide, high = found[2] - found[0], found[3] - found[1]
    usable_shape = wide * high > LEAST_AREA and PROPORTIONS[0] < high / wide < PROPORTIONS[1]
    return found if usable_shape else None


def _commonest(labels: Labels, box: Box) -> int:
    """The commonest value in a box besides the lowest one; that, where there is no other."""
    values, counts = np.unique(labels[box[1] : box[3], box[0] : box[2]], return_counts=True)
    return int(values[0] if len(values) == 1 else values[1:][counts[1:].argmax()])


def _described(content: Any, named: str) -> Description:
    try:
        caption, (width, height) = content["text"], content["original_size"]
        if not isinstance(caption, str) or not isinstance(content["final_masks"], list):
            raise TypeError("text is no text, or final_masks no list")
        size = tuple(whole(side, "a side of original_size", 1, LARGEST_ORIGINAL) for side in (width, height))
        labelled = [_labelled(entry) for entry in content["final_masks"] if "box" in entry]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{named} is not as in subject_dataset_10k ({type(error).__name__}: {shown(error)}). Expected text, original_size "
            "[width, height], and final_masks with label, logit and box."
        ) from error
    return Description(caption, (size[0], size[1]), tuple(labelled))


def _labelled(entry: Any) -> Labelled:
    if not isinstance(entry["label"], str) or not entry["label"].strip():
        raise TypeError("a label is no text")
    left, top, right, bottom = (finite(edge, "an edge of a box", -LARGEST_ORIGINAL, LARGEST_ORIGINAL) for edge in entry["box"])
    return Labelled(entry["label"], finite(entry["logit"], "a logit"), (left, top, right, bottom))
