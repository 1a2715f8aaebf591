"""Scenes of the drawn world: what is where, its caption, and the picture with a mask for every object.

A scene is data; draw() turns it into pixels, the same ones everywhere for the same scene. Every (class, look) pair is either
for training or held out for measuring, never both (held_out), whatever the background.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from . import backgrounds, looks
from .backgrounds import BACKGROUNDS
from .looks import LOOKS, Look
from .shapes import CLASSES, INK, SHAPES

SIDE = 128
"""Side of a picture in pixels."""
SMALLEST, LARGEST, STEP = 64, 256, 32
"""Sides of the pictures that Mini can draw: the UNet halves latents of an eighth twice; far from SIDE it draws patterns only."""
SUPERSAMPLING = 3
OUTLINE = 5
"""Size of the filter that widens a silhouette by its outline, in supersampled pixels; odd."""
HELD_OUT_SHARE = 8
"""One in this many (class, look) pairs is held out."""
RADII: dict[int, tuple[float, float]] = {1: (30, 42), 2: (25, 30), 3: (22, 26), 4: (21, 25)}
"""Smallest and largest radius of an object in pixels, by how many objects share the picture."""


def check_size(width: int, height: int) -> None:
    """Refuse sizes that Mini does not know; raises ValueError."""
    if any(not SMALLEST <= side <= LARGEST or side % STEP for side in (width, height)):
        raise ValueError(
            f"SSR Mini does not know pictures of {width}x{height}. Its sides are multiples of {STEP} from {SMALLEST} to {LARGEST}; "
            f"it was trained at {SIDE}."
        )


@dataclass(frozen=True)
class Instance:
    """One individual: a class and the looks that its class word does not tell."""

    kind: str
    look: Look

    @property
    def phrase(self) -> str:
        """Its name in texts that tell the looks: "a red and blue striped star"."""
        return f"{article(self.look.first)} {self.look.words} {self.kind}"

    @property
    def held_out(self) -> bool:
        """Whether this pair of class and look is kept for measuring and never trained on."""
        return zlib.crc32(f"{self.kind}/{self.look.words}".encode()) % HELD_OUT_SHARE == 0


@dataclass(frozen=True)
class Placed:
    """An instance in a scene. x, y: centre in pixels; angle in degrees, counter-clockwise."""

    instance: Instance
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """What a picture shows. seed: of the background's decoration."""

    background: str
    things: tuple[Placed, ...]
    seed: int

    @property
    def caption(self) -> str:
        """Classes and background, no looks: "a star and a fish on a green meadow"."""
        return f"{listed([f'{article(thing.instance.kind)} {thing.instance.kind}' for thing in self.things])} {self._place}"

    @property
    def told(self) -> str:
        """The caption with looks: "a red and blue striped star and a ... on a green meadow"."""
        return f"{listed([thing.instance.phrase for thing in self.things])} {self._place}"

    @property
    def _place(self) -> str:
        return BACKGROUNDS[self.background].phrase

    @cached_property
    def drawn(self) -> Drawn:
        return draw(self)


@dataclass(frozen=True)
class Drawn:
    """picture: SIDE x SIDE RGB. masks: [things, SIDE, SIDE] uint8 coverage 0..255, outline included."""

    picture: Image.Image
    masks: NDArray[np.uint8]


def instances(held_out: bool) -> list[Instance]:
    """Every (class, look) pair that is held out, or every one that is not."""
    every = (Instance(kind, look) for kind in CLASSES for look in LOOKS)
    return [instance for instance in every if instance.held_out == held_out]


def random_instance(rng: random.Random, held_out: bool = False, kind: str | None = None) -> Instance:
    while True:
        instance = Instance(kind or rng.choice(CLASSES), rng.choice(LOOKS))
        if instance.held_out == held_out:
            return instance


def random_cast(rng: random.Random, count: int, held_out: bool = False) -> list[Instance]:
    """Instances of different classes and different looks, as the objects of one scene are."""
    cast: list[Instance] = []
    for kind in rng.sample(CLASSES, count):
        instance = random_instance(rng, held_out, kind)
        while any(instance.look == other.look for other in cast):
            instance = random_instance(rng, held_out, kind)
        cast.append(instance)
    return cast


def random_scene(rng: random.Random, cast: Sequence[Instance], background: str | None = None) -> Scene:
    """The cast at random places that do not overlap. Raises ValueError for more than four."""
    if not 1 <= len(cast) <= len(RADII):
        raise ValueError(f"A scene holds 1 to {len(RADII)} objects, got {len(cast)}.")
    while True:
        things: list[Placed] = []
        for instance in cast:
            radius = rng.uniform(*RADII[len(cast)])
            for _ in range(40):
                x, y = rng.uniform(radius + 2, SIDE - radius - 2), rng.uniform(radius + 2, SIDE - radius - 2)
                if all(math.dist((x, y), (t.x, t.y)) > 0.92 * (radius + t.radius) + 3 for t in things):
                    things.append(Placed(instance, x, y, radius, rng.uniform(-10, 10)))
                    break
        if len(things) == len(cast):
            return Scene(background or rng.choice(tuple(BACKGROUNDS)), tuple(things), rng.getrandbits(31))


def example_scenes(seed: int, objects: int, background: str | None = None, marked: int = 1, pictures: int = 1) -> list[Scene]:
    """What the node Mini Scene shows: held-out objects, then the marked one (counted from 1) alone, each time on another background."""
    rng = random.Random(f"mini scene/{seed}/{objects}")
    first = random_scene(rng, random_cast(rng, objects, held_out=True), background)
    places = [place for place in BACKGROUNDS if place != first.background]
    rng.shuffle(places)
    instance = first.things[marked - 1].instance
    return [first, *(random_scene(rng, [instance], places[number % len(places)]) for number in range(pictures - 1))]


def draw(scene: Scene) -> Drawn:
    """Pixels of a scene and a mask for every object."""
    side = SIDE * SUPERSAMPLING
    canvas = backgrounds.paint(scene.background, side, random.Random(scene.seed))
    masks = []
    for thing in scene.things:
        mask = _draw_thing(canvas, thing)
        masks.append(np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX)))
    return Drawn(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), np.array(masks, dtype=np.uint8).reshape(-1, SIDE, SIDE))


def _draw_thing(canvas: Image.Image, thing: Placed) -> Image.Image:
    """Paint one object onto the canvas; returns its silhouette with outline, of the canvas's size."""
    shape = SHAPES[thing.instance.kind]
    scale, angle = SUPERSAMPLING * thing.radius, math.radians(thing.angle)
    cos, sin = math.cos(angle), math.sin(angle)
    # Drawn on a square around the object: shapes reach at most sqrt(2) from their centre, plus the outline.
    reach = math.ceil(1.45 * scale) + OUTLINE
    left, top = round(SUPERSAMPLING * thing.x) - reach, round(SUPERSAMPLING * thing.y) - reach
    turn = np.array([[cos, -sin], [sin, cos]]) * scale

    def points(polygon: NDArray[np.float64]) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in polygon @ turn + reach]

    body = Image.new("L", (2 * reach, 2 * reach))
    pen = ImageDraw.Draw(body)
    for polygon in shape.parts:
        pen.polygon(points(polygon), fill=255)
    for polygon in shape.holes:
        pen.polygon(points(polygon), fill=0)
    outlined = body.filter(ImageFilter.MaxFilter(OUTLINE))

    steps = (np.arange(2 * reach, dtype=np.float32) - reach) / scale
    x, y = steps[None, :], steps[:, None]
    patch = Image.fromarray(looks.paint(thing.instance.look, x * cos + y * sin, y * cos - x * sin))
    pen = ImageDraw.Draw(patch)
    for colour, polygon in shape.details:
        pen.polygon(points(polygon), fill=colour)
    patch.paste(INK, mask=ImageChops.subtract(outlined, body))
    canvas.paste(patch, (left, top), outlined)
    silhouette = Image.new("L", canvas.size)
    silhouette.paste(outlined, (left, top))
    return silhouette


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
