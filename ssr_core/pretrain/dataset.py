"""The drawn world as a training folder: reference pictures, masks of what is in them, and new pictures of the same instances.

A family is one reference picture with one to four instances and, for each of them, new scenes in which it appears, alone or
beside an instance of another family. The folder has the layout that ssr_core/training reads (metadata.jsonl); nothing about it
is special to this world. references.jsonl lists the references with captions that tell the looks, for training CLIP.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from ..mini.scene import Instance, Scene, random_cast, random_scene

CAST_SIZES = (1, 2, 2, 2, 3, 3, 4, 4)
"""How many instances a reference shows, one of these at random."""
ALONE = 0.55
"""Share of new scenes that show the instance alone."""
SCENES_PER_INSTANCE = 2


@dataclass(frozen=True)
class Family:
    """number: of the family; cast: what its reference shows. Everything follows from (seed, number)."""

    seed: int
    number: int

    @property
    def _rng(self) -> random.Random:
        return random.Random(f"{self.seed}/{self.number}")

    @property
    def cast(self) -> list[Instance]:
        rng = self._rng
        return random_cast(rng, rng.choice(CAST_SIZES))

    @property
    def reference(self) -> Scene:
        return random_scene(random.Random(f"{self.seed}/{self.number}/reference"), self.cast)

    def scenes(self, families: int) -> Iterator[tuple[Scene, list[tuple[int, int]]]]:
        """New scenes, each with the (family, place in its cast) of every instance in it."""
        rng = random.Random(f"{self.seed}/{self.number}/scenes")
        for place, instance in enumerate(self.cast):
            for _ in range(SCENES_PER_INSTANCE):
                shown, origins = [instance], [(self.number, place)]
                if rng.random() >= ALONE:
                    number = rng.randrange(families)
                    guests = Family(self.seed, number).cast
                    guest = rng.randrange(len(guests))
                    if guests[guest].kind != instance.kind:
                        shown.append(guests[guest])
                        origins.append((number, guest))
                order = rng.sample(range(len(shown)), len(shown))
                yield random_scene(rng, [shown[i] for i in order]), [origins[i] for i in order]


def write(folder: Path, families: int, seed: int = 0, processes: int = 1) -> int:
    """Draw the folder; returns how many new scenes it has. Same arguments, same files."""
    for name in ("references", "masks", "targets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    one = partial(_write_family, folder, families, seed)
    count = 0
    with (
        Pool(processes) as pool,
        open(folder / "references.jsonl", "w", encoding="utf-8") as references,
        open(folder / "metadata.jsonl", "w", encoding="utf-8") as metadata,
    ):
        for reference, records in tqdm(pool.imap(one, range(families), chunksize=8), total=families, desc="families"):
            references.write(json.dumps(reference) + "\n")
            metadata.writelines(json.dumps(record) + "\n" for record in records)
            count += len(records)
    return count


def _write_family(folder: Path, families: int, seed: int, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    family = Family(seed, number)
    scene = family.reference
    scene.drawn.picture.save(folder / _reference(number))
    for place, mask in enumerate(scene.drawn.masks):
        Image.fromarray(mask).save(folder / _mask(number, place))
    reference = {
        "file_name": _reference(number),
        "text": scene.caption,
        "told": scene.told,
        "background": scene.background,
        "things": [
            {"mask": _mask(number, place), "kind": thing.instance.kind, "phrase": thing.instance.phrase}
            for place, thing in enumerate(scene.things)
        ],
    }
    records = []
    for index, (target, origins) in enumerate(family.scenes(families)):
        name = f"targets/{number:06}-{index}.png"
        target.drawn.picture.save(folder / name)
        subjects = [
            {"reference": _reference(origin), "mask": _mask(origin, place), "query": thing.instance.kind}
            for (origin, place), thing in zip(origins, target.things, strict=True)
        ]
        records.append({"file_name": name, "text": target.caption, "told": target.told, "subjects": subjects})
    return reference, records


def _reference(number: int) -> str:
    return f"references/{number:06}.png"


def _mask(number: int, place: int) -> str:
    return f"masks/{number:06}-{place}.png"
