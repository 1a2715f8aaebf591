"""A training sample of several named objects: a target picture with all of them, its caption, and a reference picture of each alone.

Where they come from: records of jsonl files, folders and shards here, MIP-Adapter's data set in subject_dataset.py. What a method makes
of names and references is its own business. Every random choice is made by the generator that the caller gives.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from ..reference import reference_picture
from .method import Opener
from .records import Record, Unfit


@dataclass(frozen=True)
class NamedObject:
    """name: the word for it; reference: a picture of it alone (reference.py), of any size."""

    name: str
    reference: Image.Image


@dataclass(frozen=True)
class Scene:
    """picture: the target, size x size. original_size: (height, width) before anything was cut or scaled; corner: (top, left) of the
    part that the target shows, in pixels of the stored picture. Both are SDXL's micro-conditioning, whose target is (size, size).
    """

    picture: Image.Image
    caption: str
    original_size: tuple[int, int]
    corner: tuple[int, int]
    objects: tuple[NamedObject, ...]


def square(picture: Image.Image, corner: tuple[int, int], size: int) -> Image.Image:
    """The square as wide as the picture's shorter side at (top, left) `corner`, at size x size (bilinear)."""
    top, left = corner
    side = min(picture.size)
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)


def middle(picture: Image.Image) -> tuple[int, int]:
    """(top, left) of the square in the picture's middle."""
    side = min(picture.size)
    return (picture.height - side) // 2, (picture.width - side) // 2


def read_scene(opener: Opener, record: Record, rng: random.Random, size: int, count: int, flip: float = 0.5) -> Scene:
    """`count` subjects of a record as named objects: a query is the name, the mask marks the object in its reference picture.

    flip: chance that a reference is mirrored. Raises ValueError that names the record for a subject that nothing tells from the rest
    of its target, and Unfit for a record with fewer subjects, or two of one name.
    """
    caption = rng.choice(record.texts)
    if len(record.subjects) < count:
        raise Unfit(f"{record.name} has {len(record.subjects)} of the {count} subjects that a sample needs.")
    objects = []
    for subject in rng.sample(record.subjects, count):
        if subject.reference is None and subject.mask is None:
            raise ValueError(
                f"{record.name}: the subject {subject.queries[0]!r} has neither a reference nor a mask, so that all of the target would "
                "be its reference. Give it one of them."
            )
        picture = opener.open(subject.reference or record.name)
        mask = None if subject.mask is None else opener.open_mask(subject.mask).numpy()
        try:
            reference = reference_picture(picture, mask)
        except ValueError as error:
            raise ValueError(f"{record.name}: {subject.mask}: {error}") from error
        objects.append(NamedObject(rng.choice(subject.queries), mirrored(reference, rng, flip)))
    check_names(record.name, objects)
    target = opener.open(record.name)
    corner = middle(target)
    return Scene(square(target, corner, size), caption, (target.height, target.width), corner, tuple(objects))


def mirrored(picture: Image.Image, rng: random.Random, chance: float) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < chance else picture


def check_names(sample: str, objects: list[NamedObject]) -> None:
    """Two objects of one name cannot be told apart by it."""
    names = [thing.name for thing in objects]
    if len(set(names)) < len(names):
        raise Unfit(f"{sample} has two objects of one name among {', '.join(map(repr, names))}.")
