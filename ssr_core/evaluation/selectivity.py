"""Selectivity in the drawn world: query one of several objects, draw it in a new scene, and measure what came out.

References hold only instances that training never saw. What counts is measured from pixels (judge.py): does the new object have
the queried instance's look and not a neighbour's, is the prompt obeyed, and does the attention map lie on the queried object.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..mini.backgrounds import BACKGROUNDS
from ..mini.scene import SIDE, Scene, listed, random_cast, random_scene
from ..points import Point
from .drawer import Drawer, Reference, Sampling, Selected, Selection
from .judge import Seen, choose_look, choose_pattern, judge

QueryBy = Literal["text", "mask", "both", "click", "nothing"]
"""click: one click in the middle of the object, and no words; nothing: the empty text, which takes the whole reference."""
BATCH = 32


@dataclass(frozen=True)
class Setting:
    """How to query and draw. Methods add settings of their own (ssr.py)."""

    query_by: QueryBy = "text"
    strength: float = 1.0
    guidance: float = 4.0
    steps: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Wanted:
    """One subject of a case: which object of a reference."""

    scene: Scene
    index: int

    @property
    def kind(self) -> str:
        return self.scene.things[self.index].instance.kind


@dataclass(frozen=True)
class Case:
    """wanted: the subjects, each from its own reference; prompt: of the new picture, on `background`."""

    wanted: tuple[Wanted, ...]
    prompt: str
    background: str


@dataclass(frozen=True)
class Outcome:
    """What came of a case. With one entry for each subject:

    found: an object of its class is in the picture; look_right: of all looks in the references, the object has the subject's;
    colours_right, pattern_right: these are exactly the subject's; map_mass: share of the attention map inside the queried object
    """

    case: Case
    picture: Image.Image
    selections: tuple[Selection, ...]
    background_right: bool
    found: tuple[bool, ...]
    look_right: tuple[bool, ...]
    colours_right: tuple[bool, ...]
    pattern_right: tuple[bool, ...]
    map_mass: tuple[float, ...]

    @property
    def prompt_obeyed(self) -> bool:
        return self.background_right and all(self.found)


@dataclass(frozen=True)
class Scores:
    """Means over outcomes, 0..1. look is over the subjects whose class was drawn; look_strict counts the others as wrong."""

    cases: int
    look: float
    look_strict: float
    colours: float
    pattern: float
    prompt: float
    background: float
    classes: float
    map_mass: float


def cases(count: int, objects: int, subjects: int = 1, seed: int = 0, named: bool = True) -> Iterator[Case]:
    """References of `objects` held-out instances; the new picture shows `subjects` of them, each from another reference.

    named: whether the prompt names their classes; else it names only the background, and what they are must come from the subjects.
    """
    rng = random.Random(f"cases/{seed}/{objects}/{subjects}")
    for _ in range(count):
        while True:
            scenes = [random_scene(rng, random_cast(rng, objects, held_out=True)) for _ in range(subjects)]
            wanted = tuple(Wanted(scene, rng.randrange(objects)) for scene in scenes)
            if len({one.kind for one in wanted}) == subjects:
                break
        background = rng.choice([name for name in BACKGROUNDS if all(name != scene.background for scene in scenes)])
        names = listed([f"a {one.kind}" for one in wanted]) + " " if named else ""
        yield Case(wanted, f"{names}{BACKGROUNDS[background].phrase}", background)


def select(drawer: Drawer[Selected], case: Case, query_by: QueryBy) -> tuple[Selected, ...]:
    """What the case asks for, each from its own reference."""
    return tuple(drawer.select(_reference(wanted, query_by)) for wanted in case.wanted)


def run(drawer: Drawer[Selected], wanted: Sequence[Case], setting: Setting) -> list[Outcome]:
    """Select, draw and judge every case."""
    sampling = Sampling(SIDE, setting.steps, setting.guidance, setting.strength)
    outcomes = []
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        selections = [select(drawer, case, setting.query_by) for case in part]
        seeds = [setting.seed * 100_000 + start + i for i in range(len(part))]
        pictures = drawer.draw(selections, [case.prompt for case in part], seeds, sampling)
        outcomes += [measure(*one) for one in zip(part, pictures, selections, strict=True)]
    return outcomes


def measure(case: Case, picture: Image.Image, selections: tuple[Selection, ...]) -> Outcome:
    """Judge one picture."""
    judged = judge(picture)
    seen = [judged.of(one.kind) for one in case.wanted]
    return Outcome(
        case=case,
        picture=picture,
        selections=selections,
        background_right=judged.background == case.background,
        found=tuple(one is not None for one in seen),
        look_right=tuple(_look_right(one, number, case) for number, one in enumerate(seen)),
        colours_right=tuple(
            one is not None and one.two_colours == {_look(wanted).first, _look(wanted).second}
            for one, wanted in zip(seen, case.wanted, strict=True)
        ),
        pattern_right=tuple(
            one is not None and choose_pattern(one, _look(wanted)) == _look(wanted).pattern
            for one, wanted in zip(seen, case.wanted, strict=True)
        ),
        map_mass=tuple(map_mass(*one) for one in zip(selections, case.wanted, strict=True)),
    )


def scores(outcomes: Sequence[Outcome]) -> Scores:
    found = np.array([hit for outcome in outcomes for hit in outcome.found])

    def mean(name: str) -> np.ndarray[Any, Any]:
        return np.array([value for outcome in outcomes for value in getattr(outcome, name)], dtype=float)

    drawn = max(1, int(found.sum()))
    return Scores(
        cases=len(outcomes),
        look=float(mean("look_right").sum() / drawn),
        look_strict=float(mean("look_right").mean()),
        colours=float(mean("colours_right").sum() / drawn),
        pattern=float(mean("pattern_right").sum() / drawn),
        prompt=float(np.mean([outcome.prompt_obeyed for outcome in outcomes])),
        background=float(np.mean([outcome.background_right for outcome in outcomes])),
        classes=float(found.mean()),
        map_mass=float(mean("map_mass").mean()),
    )


def map_mass(selection: Selection, wanted: Wanted) -> float:
    """Share of the query's attention over patches that lies inside the queried object; a patch counts as far as it is covered."""
    heat = selection.heat()  # [grid, grid]
    grid = heat.shape[0]
    mask = Image.fromarray(wanted.scene.drawn.masks[wanted.index]).resize((grid, grid), Image.Resampling.BOX)
    inside = torch.from_numpy(np.asarray(mask).astype(np.float32) / 255)
    return float((heat * inside).sum() / heat.sum())


def _look_right(seen: Seen | None, number: int, case: Case) -> bool:
    """Whether the look is the wanted instance's, of all instances in all references: neighbours' and other subjects' too."""
    things = [(owner, index) for owner, one in enumerate(case.wanted) for index in range(len(one.scene.things))]
    looks = [case.wanted[owner].scene.things[index].instance.look for owner, index in things]
    return seen is not None and things[choose_look(seen, looks)] == (number, case.wanted[number].index)


def _look(wanted: Wanted) -> Any:
    return wanted.scene.things[wanted.index].instance.look


def _reference(wanted: Wanted, query_by: QueryBy) -> Reference:
    return Reference(
        wanted.scene.drawn.picture,
        wanted.kind if query_by in ("text", "both") else "",
        _mask(wanted) if query_by in ("mask", "both") else None,
        (_middle(wanted),) if query_by == "click" else (),
    )


def _mask(wanted: Wanted) -> Tensor:
    return torch.from_numpy(wanted.scene.drawn.masks[wanted.index].astype(np.float32) / 255)


def _middle(wanted: Wanted) -> Point:
    """The pixel of the object nearest to its middle, which may lie in a hole of it."""
    places = np.argwhere(wanted.scene.drawn.masks[wanted.index] > 127)  # [N, 2], rows and columns
    y, x = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return float(x), float(y)
