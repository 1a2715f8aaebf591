"""A training sample of ELITE: an object cut out of a picture, what the mappers see of it, what is to be drawn, a prompt with its word.

Where the object's picture is the record's own, the target is the same part of it, as the authors train; where a record shows its subject
by another picture, the target is the record's whole picture.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .. import vision
from ..hosts.diffusers.elite import PLACEHOLDER
from ..maps import Box
from ..methods.elite.framing import MARGIN, cut, on_grid, over, square_around
from ..prompt import named_by
from ..reference import bounds
from . import elite_views, open_images
from .elite_captions import caption
from .elite_config import EliteTrainingConfig
from .elite_views import CELL, Target
from .examples import VisionShape, target_pixels
from .method import Choice, Example, Source
from .open_images import ObjectRecord
from .records import Record, SubjectSource, Unfit
from .records import read as read_records

PIXELS_AROUND = {"global": range(10, 11), "local": range(10, 20)}
"""How many pixels around an object's box are cut out with it (csyxwei/ELITE, datasets.py)."""


class Shown(NamedTuple):
    """seen, shape: the object's part of its picture and its mask there, any size, 0 and 255; drawn: the picture to draw, None for
    `seen`; names: what the record's text may call the object."""

    seen: Image.Image
    shape: Image.Image
    drawn: Image.Image | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class EliteInputs:
    """A sample's inputs. words: how many vectors stand for the word; length: tokens that the text encoder reads.

    text, "" where it is dropped; seen [3, s, s] for the global mapper; with the local stage also thing [3, s, s] for the local mapper,
    patches [grid * grid] and counts [1, h, w], where the loss counts. The prompt that is encoded with every other method's is "": the
    text goes through the text encoder with the words in it.
    """

    config: EliteTrainingConfig
    shape: VisionShape
    tokenizer: Any
    words: int
    length: int

    def source(self) -> Source:
        data = Path(self.config.data)
        if data.is_dir() and open_images.is_open_images(data):
            return open_images.read(data, self.config.stage, self.config.split)
        return read_records(self.config.data)

    def choose(self, record: Record | ObjectRecord, rng: random.Random) -> SubjectSource | None:
        """Which of a record's subjects is the word; None for an object of Open Images."""
        return rng.choice(record.subjects) if isinstance(record, Record) else None

    def read(self, opener: Any, record: Any, choice: Choice) -> Example:
        config, rng = self.config, random.Random(choice.seed)
        shown = self._shown(opener, record, choice.chosen, rng)
        target = self._target(shown, choice.flip, rng)
        own = named_by(choice.prompt, shown.names, PLACEHOLDER) if config.captions == "records" else None
        text = caption(own, target.view, config.templates, rng, self.tokenizer, self.words, self.length)
        example = {
            "pixels": target.pixels,
            "prompt": "",
            "text": text if choice.prompt else "",
            "seed": choice.seed,
        }
        seen = vision.frame(shown.seen, self.shape.size, "stretch")
        if config.stage == "global":
            seen = elite_views.turned(seen, choice.seed) if config.augment else seen
            return {**example, "seen": vision.normalise([seen])[0]}
        thing, patches = self._thing(shown, record.name, choice.seed)
        return {
            **example,
            "seen": vision.normalise([seen])[0],
            "thing": vision.normalise([thing])[0],
            "patches": patches,
            "counts": target.counts,
        }

    def _shown(self, opener: Any, record: Record | ObjectRecord, chosen: SubjectSource | None, rng: random.Random) -> Shown:
        if isinstance(record, ObjectRecord):
            picture, drawn = opener.open(record.name).convert("RGB"), None
            names: tuple[str, ...] = ()
            mask = None if record.mask is None else opener.open_mask(record.mask)
            marked = _boxed(picture, record.box) if record.box is not None else None
        else:
            assert chosen is not None
            named, names, marked = chosen.reference or record.name, chosen.queries, None
            picture = opener.open(named).convert("RGB")
            drawn = None if named == record.name else opener.open(record.name)
            mask = None if chosen.mask is None else opener.open_mask(chosen.mask)
            if mask is None and self.config.stage == "local":
                raise ValueError(
                    f"{record.name}: the subject {names[0]!r} has no mask, from which the local stage learns. Give it one, or train "
                    "`stage: global`."
                )
        if mask is not None:
            marked = over(picture, mask).numpy().astype(np.uint8)
        if marked is None:
            return Shown(picture, Image.new("L", picture.size, 255), drawn, names)
        if not marked.any():
            raise ValueError(f"{record.name}: the mask marks nothing; expected some area of 0.5 or more.")
        box = square_around(marked, MARGIN) if self.config.crop == "square" else self._padded(marked, rng)
        seen, shape = cut(picture, box, vision.MEAN_COLOUR), cut(Image.fromarray(marked * 255), box, 0)
        return Shown(seen, shape, drawn, names)

    def _padded(self, marked: NDArray[np.uint8], rng: random.Random) -> tuple[int, int, int, int]:
        left, top, right, bottom = bounds(marked.astype(bool))
        height, width = marked.shape
        around = rng.choice(PIXELS_AROUND[self.config.stage])
        return max(0, left - around), max(0, top - around), min(width, right + around), min(height, bottom + around)

    def _target(self, shown: Shown, flip: bool, rng: random.Random) -> Target:
        size = self.config.size
        if shown.drawn is not None:
            return Target(target_pixels(shown.drawn, size, flip), torch.ones(1, size // CELL, size // CELL))
        scales = self.config.stage == "local" and self.config.zoom
        target = elite_views.scaled(shown.seen, size, rng) if scales else elite_views.whole(shown.seen, size)
        return Target(target.pixels.flip(-1), target.counts.flip(-1), target.view) if flip else target

    def _thing(self, shown: Shown, name: str, seed: int) -> tuple[Image.Image, torch.Tensor]:
        """The object on black as the local mapper sees it, and its patches; unmoved where moving loses it."""
        marked = np.asarray(shown.shape)[..., None] // 255
        size = self.shape.size
        thing = vision.frame(Image.fromarray(np.asarray(shown.seen) * marked), size, "stretch")
        shape = shown.shape.resize((size, size), Image.Resampling.NEAREST)
        tries = [elite_views.moved(thing, shape, seed)] if self.config.augment else []
        for picture, mask in (*tries, (thing, shape)):
            patches = on_grid(np.asarray(mask) // 255, self.shape.grid)
            if bool(patches.any()):
                return picture, patches
        raise Unfit(f"{name}: its mask is so thin that no place of the {self.shape.grid} x {self.shape.grid} is marked.")


def _boxed(picture: Image.Image, box: Box) -> NDArray[np.uint8]:
    """A box, in shares of the picture, as a mask."""
    marked = np.zeros((picture.height, picture.width), np.uint8)
    left, top, right, bottom = box
    columns = slice(int(left * picture.width), max(int(left * picture.width) + 1, int(right * picture.width)))
    rows = slice(int(top * picture.height), max(int(top * picture.height) + 1, int(bottom * picture.height)))
    marked[rows, columns] = 1
    return marked
