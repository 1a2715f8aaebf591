"""Scenes for the base alone: one to four objects that keep clear of each other, as arrays that every stage reads.

The training folder of the encoders (dataset.py) shows the same instance again and again; a base needs many pictures instead, and
ones in which it can be seen where an object ends: what touches in training is drawn as one blob.
"""

from __future__ import annotations

import json
import random
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from ..mini.scene import SIDE, Scene, random_cast, random_scene

COUNTS = (1, 2, 3, 4)
SHARES = (20, 40, 30, 10)
"""How many objects a scene shows, and how often, in percent."""
APART = 5
"""Least distance of two silhouettes in pixels; odd."""
PICTURES, INSIDE, CAPTIONS = "scenes.npy", "inside.npy", "scenes.jsonl"


def write(folder: Path, count: int, seed: int = 0, processes: int = 1) -> None:
    """Draw `count` scenes: pictures [N, 128, 128, 3] and the coverage of all objects [N, 128, 128], uint8, and their captions.

    Same arguments, same files; what is already complete is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CAPTIONS).exists():
        return
    shape = (count, SIDE, SIDE)
    pictures = np.lib.format.open_memmap(folder / PICTURES, "w+", np.uint8, (*shape, 3))
    inside = np.lib.format.open_memmap(folder / INSIDE, "w+", np.uint8, shape)
    lines = []
    with Pool(processes) as pool:
        drawn = pool.imap(partial(_draw, seed), range(count), chunksize=32)
        for number, (picture, covered, captions) in enumerate(tqdm(drawn, total=count, desc="scenes", mininterval=10)):
            pictures[number], inside[number] = picture, covered
            lines.append(json.dumps(captions) + "\n")
    pictures.flush()
    inside.flush()
    (folder / CAPTIONS).write_text("".join(lines), encoding="utf-8")


def scene(seed: int, number: int) -> Scene:
    rng = random.Random(f"scenes/{seed}/{number}")
    (count,) = rng.choices(COUNTS, SHARES)
    while True:
        found = random_scene(rng, random_cast(rng, count))
        if _apart(found.drawn.masks):
            return found


def _draw(seed: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, str]]:
    found = scene(seed, number)
    return np.asarray(found.drawn.picture), found.drawn.masks.max(axis=0), {"text": found.caption, "told": found.told}


def _apart(masks: NDArray[np.uint8]) -> bool:
    """Whether no two silhouettes come nearer than APART pixels. masks: [things, H, W] coverage."""
    wider = [np.asarray(Image.fromarray(mask).filter(ImageFilter.MaxFilter(APART))) > 0 for mask in masks]
    return bool(np.sum(wider, axis=0).max() <= 1)
