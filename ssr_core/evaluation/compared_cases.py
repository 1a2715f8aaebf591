"""What the methods are compared on: held-out instances of the drawn world in four situations, each under the same prompts for all of them.

One stream of pairs of instances: its first ones are there to choose strengths on, those after them to be judged, and no instance is both.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from ..mini.backgrounds import BACKGROUNDS
from ..mini.scene import Instance, Scene, random_cast, random_instance, random_scene
from .selectivity import Case, Wanted, foreign_colour, prompt_of

Situation = Literal["alone", "among", "two", "edit"]
SITUATIONS: tuple[Situation, ...] = get_args(Situation)
MEANING: dict[str, str] = {
    "alone": "The subject is alone in its picture; its look is judged against that of one other instance (chance 1 in 2).",
    "among": "It is one of two to four in its picture, and judged against the others (chance 1 in 2 to 1 in 4).",
    "two": "Two subjects, each alone in a picture of its own, and judged against each other (chance 1 in 2).",
    "edit": "Alone again, and the prompt tells a colour that the subject does not have.",
}
CHOOSING = 6
"""Instances that strengths are chosen on."""
CHOOSING_PROMPTS = 5
LEARNED_FROM = 5
"""Pictures, of subjects that are learned; LASR's authors take 3 to 10."""
SEEN = 3
"""Backgrounds on which a pair is shown; prompts tell the others."""


@dataclass(frozen=True)
class ComparedCases:
    """pictures: of each subject alone, for methods that take several; the first is the same whatever their number. choosing: of the
    instances that strengths are chosen on. Two subjects are two instances, so that these have half as many cases."""

    situation: Situation
    instances: int
    prompts: int
    pictures: int = 1
    choosing: bool = False

    @property
    def count(self) -> int:
        return self.prompts * (-(-self.instances // 2) if self.situation == "two" else self.instances)

    def cases(self, count: int) -> list[Case]:
        """All of them; a row's own count is never that of the command."""
        return list(_cases(self))


@dataclass(frozen=True)
class LearnedCases:
    """The same cases for a table of learned subjects alone, so that what was learned for one program serves the other. count: of all
    prompts, where it is not the command's."""

    told: bool = False
    pictures: int = LEARNED_FROM
    prompts: int = 5
    count: int | None = None

    def cases(self, count: int) -> list[Case]:
        count = self.count or count
        of = ComparedCases("edit" if self.told else "alone", -(-count // self.prompts), self.prompts, self.pictures)
        return of.cases(0)[:count]


def pairs(count: int, choosing: bool) -> list[list[Instance]]:
    """Held-out instances, two of different class and look at a time, none of them twice."""
    rng, found, used = random.Random("compare"), list[list[Instance]](), set[Instance]()
    skipped = 0 if choosing else CHOOSING // 2
    while len(found) < skipped + count:
        pair = random_cast(rng, 2, held_out=True)
        if used.isdisjoint(pair):
            used.update(pair)
            found.append(pair)
    return found[skipped:]


def _cases(of: ComparedCases) -> Iterator[Case]:
    for number, pair in enumerate(pairs(-(-of.instances // 2), of.choosing)):
        name = f"compare/{of.choosing}/{number}"
        rng = random.Random(name)
        places = rng.sample(list(BACKGROUNDS), len(BACKGROUNDS))
        seen, new = places[:SEEN], places[SEEN:]
        first = [random_scene(rng, [instance], rng.choice(seen)) for instance in pair]
        further = random.Random(f"{name}/further")
        more = [
            tuple(random_scene(further, [instance], further.choice(seen)) for _ in range(of.pictures - 1)) for instance in pair
        ]
        alone = [Wanted(scene, 0, others) for scene, others in zip(first, more, strict=True)]
        colours = random.Random(f"{name}/told")
        if of.situation == "two":
            for place in range(of.prompts):
                background = new[place % len(new)]
                kinds = [instance.kind for instance in pair]
                yield Case(tuple(alone), prompt_of(kinds, "", background), background)
            continue
        for own in range(min(2, of.instances - 2 * number)):
            wanted = (
                (Wanted(_among(pair[own], first[own], 2 * number + own, name), 0),)
                if of.situation == "among"
                else (alone[own],)
            )
            others = () if of.situation == "among" else (pair[1 - own].look,)
            for place in range(of.prompts):
                background = new[place % len(new)]
                colour = foreign_colour(wanted, colours, others) if of.situation == "edit" else ""
                yield Case(wanted, prompt_of([pair[own].kind], colour, background), background, colour, others)


def _among(instance: Instance, alone: Scene, number: int, name: str) -> Scene:
    """An instance with one, two or three others, in turn, on the background on which it is alone."""
    rng = random.Random(f"{name}/among/{number}")
    cast = [instance]
    while len(cast) < 2 + number % 3:
        other = random_instance(rng, held_out=True)
        if all(other.kind != one.kind and other.look != one.look for one in cast):
            cast.append(other)
    return random_scene(rng, cast, alone.background)
