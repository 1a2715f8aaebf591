"""LASR's tables over the drawn world: held-out instances, each learned from five pictures, drawn by the static part, by the adaptive one,
by both, and by Textual Inversion; and how long learning took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..hosts.diffusers.base import Base
from ..methods.lasr.recipe import Recipe
from ..methods.ssr.encoder import SSREncoder
from ..tensor_files import written_whole
from ..text_files import read_json
from .compared_cases import LearnedCases
from .drawer import Drawer, Reference
from .drawn import Tables
from .learned import InversionDrawer, LASRDrawer
from .rows import PICTURES, Row
from .selectivity import Setting
from .ssr import SHOWN, SSRDrawer, SSRSetting

LOOK, EDIT = "look", "edit"
"""The tables: of prompts that tell the background, and of such that tell a colour too."""
COLUMNS = {
    LOOK: ("look", "look_strict", "colours", "pattern", "classes", "background", "prompt", "seconds"),
    EDIT: ("background", "told", "edit", "classes", "prompt", "look", "seconds"),
    PICTURES: (),
}
INVERSION, BASE = "textual-inversion", "base"
"""Whose weights a row has, besides LASR's."""
PARTS = {"static": ("static only", 0.0), "adaptive": ("adaptive only", 1.0), "both": ("both", 0.5)}
"""Short name, title and alpha."""
SECONDS = "seconds.json"
"""In the folder of what was learned: how long each took."""


@dataclass(frozen=True)
class LASRSetting(Setting):
    """strength: alpha. A subject is learned from the word of its class alone, so that its look comes from the pictures."""


def rows() -> dict[str, Row]:
    """Every row by its short name."""
    found: dict[str, Row] = {}
    plain = LASRSetting()
    for table in (LOOK, EDIT):
        of = LearnedCases(told=table == EDIT)
        alone = SSRSetting(strength=0.0)
        found[f"{table}-{BASE}"] = Row(table, "no subject: the class's name in the prompt", of, alone, BASE)
        for short, (told, alpha) in PARTS.items():
            found[f"{table}-{short}"] = Row(table, f"LASR, {told}", of, replace(plain, strength=alpha))
        found[f"{table}-{INVERSION}"] = Row(table, "Textual Inversion", of, plain, INVERSION)
    shown = LearnedCases(prompts=2, count=SHOWN)
    found["pictures-both"] = Row(PICTURES, "LASR, both parts", shown, replace(plain, strength=PARTS["both"][1]))
    found[f"pictures-{INVERSION}"] = Row(PICTURES, "Textual Inversion", shown, plain, INVERSION)
    return found


class _Timed:
    """Writes down how long learning took, over all runs that it took."""

    lessons: Any

    def _learn(
        self, reference: Reference, recipe: Recipe, path: Path, said: Mapping[str, str], pictures: Sequence[Image.Image]
    ) -> None:
        before = time.perf_counter()
        try:
            super()._learn(reference, recipe, path, said, pictures)  # type: ignore[misc]
        finally:
            taken = {**seconds(self.lessons.folder)}
            taken[reference.name] = taken.get(reference.name, 0.0) + time.perf_counter() - before
            self.lessons.folder.mkdir(parents=True, exist_ok=True)
            with written_whole(self.lessons.folder / SECONDS) as part:
                part.write_text(json.dumps(taken, indent=2), encoding="utf-8")


class TimedLASR(_Timed, LASRDrawer):
    pass


class TimedInversion(_Timed, InversionDrawer):
    pass


def seconds(folder: Path) -> dict[str, float]:
    """How long each subject of a folder took to learn."""
    file = folder / SECONDS
    found = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict) or not all(isinstance(value, float) for value in found.values()):
        raise ValueError(f"{file} does not tell seconds. Move it away, or give another --subjects.")
    return found


def tables(base: Base, lasr: TimedLASR, inversion: TimedInversion, encoder: SSREncoder, described: Mapping[str, Row]) -> Tables:
    """encoder: draws the rows without a subject, in which it has no part; described: what rows() says."""
    drawers: dict[str, Drawer[Any]] = {"": lasr, INVERSION: inversion, BASE: SSRDrawer(base, encoder)}

    def also(row: Row) -> dict[str, float]:
        drawer = drawers[row.weights]
        taken = seconds(drawer.lessons.folder) if isinstance(drawer, _Timed) else {}
        return {"seconds": sum(taken.values()) / len(taken)} if taken else {}

    return Tables("lasr", described, lambda row: drawers[row.weights], COLUMNS, also=also)
