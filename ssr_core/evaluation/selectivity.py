"""Selectivity in the drawn world: query one of several objects, draw it in a new scene, and measure what came out.

References hold only instances that training never saw. What counts is measured from pixels (judge.py): does the new object have
the queried instance's look and not a neighbour's, is the prompt obeyed, and does the attention map lie on the queried object.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..mini.backgrounds import BACKGROUNDS
from ..mini.looks import COLOURS, Look
from ..mini.scene import SIDE, Scene, article, listed, random_cast, random_scene
from ..points import Point
from .drawer import Drawer, Reference, Sampling, Selected, Selection
from .intervals import Bounds, interval
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
    """One subject of a case: which object of a reference. more: further scenes that show it alone, for methods that take several."""

    scene: Scene
    index: int
    more: tuple[Scene, ...] = ()

    @property
    def kind(self) -> str:
        return self.scene.things[self.index].instance.kind


@dataclass(frozen=True)
class Case:
    """wanted: the subjects, each from its own reference; prompt: of the new picture, on `background`.

    told: a colour that the prompt gives to each subject and that none of them has, or ""; others: looks that are in no reference and that
    a drawn object could be taken for.
    """

    wanted: tuple[Wanted, ...]
    prompt: str
    background: str
    told: str = ""
    others: tuple[Look, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a case. With one entry for each subject:

    found: an object of its class is in the picture; look_right: of all looks in the references, the object has the subject's;
    colours_right, pattern_right: these are exactly the subject's; map_mass: share of the attention map inside the queried object;
    confused: the look is another subject's; told_right: the colour that the prompt tells is one of the object's two commonest
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
    confused: tuple[bool, ...]
    told_right: tuple[bool, ...]

    @property
    def prompt_obeyed(self) -> bool:
        return self.background_right and all(self.found)

    @property
    def edit_obeyed(self) -> bool:
        return self.background_right and all(self.told_right)


@dataclass(frozen=True)
class Scores:
    """Means over outcomes, 0..1. look, colours, pattern and confused are over the subjects whose class was drawn; look_strict counts the
    others as wrong. told and edit are None where prompts tell no colour. intervals: of 95 % for everything but map_mass.
    """

    cases: int
    look: float
    look_strict: float
    colours: float
    pattern: float
    prompt: float
    background: float
    classes: float
    map_mass: float
    all_drawn: float
    confused: float
    told: float | None
    edit: float | None
    intervals: dict[str, list[float]]


def cases(count: int, objects: int, subjects: int = 1, seed: int = 0, named: bool = True, told: bool = False) -> Iterator[Case]:
    """References of `objects` held-out instances; the new picture shows `subjects` of them, each from another reference.

    named: whether the prompt names their classes; else it names only the background, and what they are must come from the subjects.
    told: whether it tells a colour that they do not have. The cases are the same either way.
    """
    rng, colours = random.Random(f"cases/{seed}/{objects}/{subjects}"), random.Random(f"told/{seed}/{objects}/{subjects}")
    for _ in range(count):
        while True:
            scenes = [random_scene(rng, random_cast(rng, objects, held_out=True)) for _ in range(subjects)]
            wanted = tuple(Wanted(scene, rng.randrange(objects)) for scene in scenes)
            if len({one.kind for one in wanted}) == subjects:
                break
        background = rng.choice([name for name in BACKGROUNDS if all(name != scene.background for scene in scenes)])
        colour = foreign_colour(wanted, colours) if told else ""
        yield Case(wanted, prompt_of([one.kind for one in wanted] if named else [], colour, background), background, colour)


def prompt_of(kinds: Sequence[str], colour: str, background: str) -> str:
    """What a new picture shows. colour: told of everything in it, or ""."""
    named = [" ".join([article(colour or kind), *([colour] if colour else []), kind]) for kind in kinds]
    return " ".join([*([listed(named)] if named else []), BACKGROUNDS[background].phrase])


def foreign_colour(wanted: Sequence[Wanted], rng: random.Random, others: Sequence[Look] = ()) -> str:
    """One that none of them has, nor a look that they could be taken for: whoever obeys must not be judged to be that."""
    had = {colour for look in (*map(_look, wanted), *others) for colour in (look.first, look.second)}
    return rng.choice([colour for colour in COLOURS if colour not in had])


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
    owners = [None if one is None else _owner(one, case) for one in seen]
    own = [(number, one.index) for number, one in enumerate(case.wanted)]
    return Outcome(
        case=case,
        picture=picture,
        selections=selections,
        background_right=judged.background == case.background,
        found=tuple(one is not None for one in seen),
        look_right=tuple(owner == place for owner, place in zip(owners, own, strict=True)),
        colours_right=tuple(
            one is not None and one.two_colours == {_look(wanted).first, _look(wanted).second}
            for one, wanted in zip(seen, case.wanted, strict=True)
        ),
        pattern_right=tuple(
            one is not None and choose_pattern(one, _look(wanted)) == _look(wanted).pattern
            for one, wanted in zip(seen, case.wanted, strict=True)
        ),
        map_mass=tuple(map_mass(*one) for one in zip(selections, case.wanted, strict=True)),
        confused=tuple(owner in own and owner != place for owner, place in zip(owners, own, strict=True)),
        told_right=tuple(one is not None and case.told in one.two_colours for one in seen) if case.told else (),
    )


def scores(outcomes: Sequence[Outcome], bounds: Bounds = interval) -> Scores:
    """bounds: of a share, from the groups that succeed or fail together. Raises ValueError for no outcomes."""
    shares: dict[str, float | None] = {}
    intervals: dict[str, list[float]] = {}
    told = any(outcome.case.told for outcome in outcomes)
    for name, counts in COUNTS.items():
        groups: dict[tuple[Wanted, ...], tuple[int, int]] = {}
        for outcome in outcomes:
            hits, tries = counts(outcome)
            before = groups.get(outcome.case.wanted, (0, 0))
            # Prompts of one learned subject succeed or fail together.
            groups[outcome.case.wanted] = before[0] + hits, before[1] + tries
        hits, tries = (sum(numbers) for numbers in zip(*groups.values(), strict=True))
        shares[name] = hits / max(1, tries) if told or name not in ("told", "edit") else None
        if tries and shares[name] is not None:
            intervals[name] = list(bounds(list(groups.values())))
    mass = [value for outcome in outcomes for value in outcome.map_mass]
    return Scores(cases=len(outcomes), map_mass=float(np.mean(mass)), intervals=intervals, **shares)  # type: ignore[arg-type]


def _of_subjects(right: Sequence[bool], among: Sequence[bool] | None = None) -> tuple[int, int]:
    return sum(right), len(right) if among is None else sum(among)


COUNTS: dict[str, Callable[[Outcome], tuple[int, int]]] = {
    "look": lambda one: _of_subjects(one.look_right, one.found),
    "look_strict": lambda one: _of_subjects(one.look_right),
    "colours": lambda one: _of_subjects(one.colours_right, one.found),
    "pattern": lambda one: _of_subjects(one.pattern_right, one.found),
    "prompt": lambda one: (one.prompt_obeyed, 1),
    "background": lambda one: (one.background_right, 1),
    "classes": lambda one: _of_subjects(one.found),
    "all_drawn": lambda one: (all(one.found), 1),
    "confused": lambda one: _of_subjects(one.confused, one.found),
    "told": lambda one: _of_subjects(one.told_right),
    "edit": lambda one: (one.edit_obeyed, 1),
}
"""What a share counts in an outcome: how often it was right, and among how many."""


def map_mass(selection: Selection, wanted: Wanted) -> float:
    """Share of the query's attention over patches that lies inside the queried object; a patch counts as far as it is covered."""
    heat = selection.heat()  # [grid, grid]
    grid = heat.shape[0]
    mask = Image.fromarray(wanted.scene.drawn.masks[wanted.index]).resize((grid, grid), Image.Resampling.BOX)
    inside = torch.from_numpy(np.asarray(mask).astype(np.float32) / 255)
    return float((heat * inside).sum() / heat.sum())


def _owner(seen: Seen, case: Case) -> tuple[int, int] | None:
    """Whose look an object has, of all instances in all references, neighbours' and other subjects' too: which reference and which
    object in it; None for the case's other looks."""
    things = [(owner, index) for owner, one in enumerate(case.wanted) for index in range(len(one.scene.things))]
    looks = [case.wanted[owner].scene.things[index].instance.look for owner, index in things]
    best = choose_look(seen, [*looks, *case.others])
    return things[best] if best < len(things) else None


def _look(wanted: Wanted) -> Look:
    return wanted.scene.things[wanted.index].instance.look


def _reference(wanted: Wanted, query_by: QueryBy) -> Reference:
    return Reference(
        wanted.scene.drawn.picture,
        wanted.kind if query_by in ("text", "both") else "",
        _mask(wanted) if query_by in ("mask", "both") else None,
        (_middle(wanted),) if query_by == "click" else (),
        tuple(scene.drawn.picture for scene in wanted.more),
        f"{wanted.kind}-{wanted.scene.seed}",
    )


def _mask(wanted: Wanted) -> Tensor:
    return torch.from_numpy(wanted.scene.drawn.masks[wanted.index].astype(np.float32) / 255)


def _middle(wanted: Wanted) -> Point:
    """The pixel of the object nearest to its middle, which may lie in a hole of it."""
    places = np.argwhere(wanted.scene.drawn.masks[wanted.index] > 127)  # [N, 2], rows and columns
    y, x = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return float(x), float(y)
