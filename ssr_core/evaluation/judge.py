"""What a picture of the drawn world shows, measured from its pixels: background, objects, their classes and looks.

Nothing here is learned: backgrounds and looks have known colours, classes have known silhouettes. On pictures drawn by the world itself
the judge is almost always right (tests); on pictures drawn by a model it is as good as its measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ..mini import looks
from ..mini.backgrounds import BACKGROUNDS
from ..mini.looks import COLOURS, PATTERNS, Look
from ..mini.shapes import CLASSES, INK, PAPER, SHAPES

NEAR = 48.0
"""Largest distance in RGB at which a pixel still counts as a background's colour."""
SMALLEST = 180
"""Area in pixels below which a region is a smudge, not an object."""
CLEAR = 0.72
"""Overlap with a class's silhouette from which a region is taken for one object."""
WIDEST_BRIDGE = 4
TEMPLATE = 32
ANGLES = (-10, -5, 0, 5, 10)

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """An object that was found. kind: its class; certainty: overlap with that class's silhouette, 0..1.

    colours: share of each of COLOURS inside it; box: (left, top, right, bottom) in pixels; pixels: the whole picture.
    """

    kind: str
    certainty: float
    overlaps: dict[str, float]
    colours: dict[str, float]
    box: tuple[int, int, int, int]
    mask: Mask
    pixels: Pixels

    @property
    def two_colours(self) -> frozenset[str]:
        """The two commonest colours inside."""
        return frozenset(sorted(self.colours, key=lambda name: -self.colours[name])[:2])


@dataclass(frozen=True)
class Judged:
    background: str
    objects: tuple[Seen, ...]

    def of(self, kind: str) -> Seen | None:
        """The object most like this class, among those that resemble no other class more."""
        alike = [seen for seen in self.objects if seen.kind == kind]
        return max(alike, key=lambda seen: seen.overlaps[kind], default=None)


def judge(picture: Image.Image) -> Judged:
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)  # [H, W, 3]
    distances = {name: _background_distance(pixels, name) for name in BACKGROUNDS}
    background = max(distances, key=lambda name: _likeness(pixels, name))
    regions = _regions(distances[background] > NEAR)
    return Judged(background, tuple(seen for region in regions for seen in _see_parts(pixels, region)))


def choose_look(seen: Seen, candidates: Sequence[Look]) -> int:
    """Which candidate's look the object has: the one whose colours and pattern agree best with its pixels."""
    return max(range(len(candidates)), key=lambda i: agreement(seen, candidates[i]))


def choose_pattern(seen: Seen, look: Look) -> str:
    """Which pattern the object shows, given its colours."""
    return max(PATTERNS, key=lambda pattern: _pattern_agreement(seen, Look(pattern, look.first, look.second)))


def agreement(seen: Seen, look: Look) -> float:
    """Overlap of colour shares with those that the look has on this class, plus a little for where the colours lie."""
    expected = _expected_colours(seen.kind, look)
    shared = sum(min(share, expected.get(name, 0.0)) for name, share in seen.colours.items())
    return shared + 0.2 * _pattern_agreement(seen, look)


def _likeness(pixels: Pixels, name: str) -> float:
    """How much of the picture has the background's two main colours where they belong, upper and lower field alike."""
    background = BACKGROUNDS[name]
    height = pixels.shape[0]
    top, bottom = pixels[: int(0.45 * height)], pixels[int(0.65 * height) :]
    return sum(
        float((_distance(part, colour) < 36).mean()) for part, colour in ((top, background.top), (bottom, background.bottom))
    )


def _background_distance(pixels: Pixels, name: str) -> Pixels:
    background = BACKGROUNDS[name]
    colours = (background.top, background.bottom, background.accent)
    return np.minimum.reduce([_distance(pixels, colour) for colour in colours])


def _distance(pixels: Pixels, colour: tuple[int, int, int]) -> Pixels:
    return np.linalg.norm(pixels - np.array(colour, dtype=np.float32), axis=-1)


def _regions(foreground: Mask) -> list[Mask]:
    """Connected regions that are large enough to be objects, holes filled, largest first."""
    found = []
    numbers = _numbered(foreground)
    for number in np.unique(numbers[numbers > 0]):
        region = numbers == number
        if region.sum() >= SMALLEST:
            found.append(_filled(region))
    return sorted(found, key=lambda region: -int(region.sum()))


def _numbered(mask: Mask) -> NDArray[np.int32]:
    """Number of the 4-connected region of each pixel; 0 outside. Numbers spread until nothing changes."""
    numbers = np.where(mask, np.arange(1, mask.size + 1, dtype=np.int32).reshape(mask.shape), 0)
    while True:
        padded = np.pad(numbers, 1)
        spread = np.maximum.reduce([numbers, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        spread = np.where(mask, spread, 0)
        if np.array_equal(spread, numbers):
            return numbers
        numbers = spread


def _filled(region: Mask) -> Mask:
    """The region with its holes: everything that the picture's rim cannot reach."""
    outside = Image.fromarray(np.pad(np.where(region, 0, 255).astype(np.uint8), 1, constant_values=255)).copy()
    ImageDraw.floodfill(outside, (0, 0), 128)
    return np.asarray(outside)[1:-1, 1:-1] != 128


def _see_parts(pixels: Pixels, region: Mask) -> list[Seen]:
    """The object in a region; or, if the region resembles no class, the touching objects in it, if they resemble classes better."""
    whole = _see(pixels, region)
    if whole.certainty >= CLEAR:
        return [whole]
    for width in range(1, WIDEST_BRIDGE + 1):
        parts = [_see(pixels, part) for part in _split(region, width)]
        if len(parts) > 1 and min(part.certainty for part in parts) > whole.certainty:
            return parts
    return [whole]


def _split(region: Mask, width: int) -> list[Mask]:
    """The parts of a region that are joined only by bridges of up to 2 * width pixels. Each grows back over the pixels nearest to it."""
    core = np.asarray(Image.fromarray(region).convert("L").filter(ImageFilter.MinFilter(2 * width + 1))) > 0
    numbers = _numbered(core)
    sizes = {int(number): int((numbers == number).sum()) for number in np.unique(numbers[numbers > 0])}
    numbers = np.where(np.isin(numbers, [number for number, size in sizes.items() if size >= SMALLEST // 2]), numbers, 0)
    for _ in range(3 * width):
        padded = np.pad(numbers, 1)
        neighbours = np.maximum.reduce([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        numbers = np.where((numbers == 0) & region, neighbours, numbers)
    return [_filled(numbers == number) for number in np.unique(numbers[numbers > 0])]


def _see(pixels: Pixels, region: Mask) -> Seen:
    rows, columns = np.nonzero(region)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    overlaps = {kind: max(_overlap(region, box, kind, angle) for angle in ANGLES) for kind in CLASSES}
    kind = max(overlaps, key=overlaps.__getitem__)
    return Seen(kind, overlaps[kind], overlaps, _colour_shares(pixels, region), box, region, pixels)


def _overlap(region: Mask, box: tuple[int, int, int, int], kind: str, angle: int) -> float:
    """Intersection over union of two silhouettes stretched to the same square, less where their proportions differ."""
    left, top, right, bottom = box
    cut = Image.fromarray(region[top:bottom, left:right]).convert("L").resize((TEMPLATE, TEMPLATE), Image.Resampling.BOX)
    own = np.asarray(cut) > 127
    template, proportion = _template(kind, angle)
    union = (own | template).sum()
    ratio = ((right - left) / (bottom - top)) / proportion
    return float((own & template).sum() / union) * min(ratio, 1 / ratio) ** 0.5


@cache
def _template(kind: str, angle: int) -> tuple[Mask, float]:
    """A class's silhouette with holes filled, stretched to a square, and width over height before that."""
    shape, side = SHAPES[kind], 240
    turn = np.radians(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * side / 3
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for polygon in shape.parts:
        pen.polygon([(float(x), float(y)) for x, y in polygon @ matrix + side / 2], fill=255)
    for polygon in shape.holes:
        pen.polygon([(float(x), float(y)) for x, y in polygon @ matrix + side / 2], fill=0)
    filled = _filled(np.asarray(canvas) > 127)
    left, top, right, bottom = Image.fromarray(filled).convert("L").getbbox() or (0, 0, side, side)
    cut = Image.fromarray(filled[top:bottom, left:right]).convert("L").resize((TEMPLATE, TEMPLATE), Image.Resampling.BOX)
    return np.asarray(cut) > 127, (right - left) / (bottom - top)


def _nearest_colour(pixels: Pixels) -> NDArray[np.intp]:
    """Index into COLOURS, or beyond them for ink and paper: [..., 3] -> [...]."""
    palette = [*COLOURS.values(), INK, PAPER]
    return np.stack([_distance(pixels, colour) for colour in palette], axis=-1).argmin(axis=-1)


def _colour_shares(pixels: Pixels, region: Mask) -> dict[str, float]:
    index = _nearest_colour(pixels[region])
    counts = np.bincount(index, minlength=len(COLOURS) + 2)[: len(COLOURS)]
    total = max(1, int(counts.sum()))
    return {name: float(count / total) for name, count in zip(COLOURS, counts, strict=True)}


@cache
def _expected_colours(kind: str, look: Look) -> dict[str, float]:
    """Colour shares that a look has on a class."""
    template, _ = _template(kind, 0)
    steps = ((np.arange(TEMPLATE) + 0.5) / TEMPLATE * 2 - 1).astype(np.float32)
    painted = looks.paint(look, steps[None, :], steps[:, None])[template]
    first = float((painted == np.array(COLOURS[look.first])).all(axis=-1).mean())
    return {look.first: first, look.second: 1 - first}


def _pattern_agreement(seen: Seen, look: Look) -> float:
    """Share of the object's pixels of these two colours that lie where the look's pattern puts them, at the best small shift."""
    left, top, right, bottom = seen.box
    radius = max(right - left, bottom - top) / 2
    index = _nearest_colour(seen.pixels)
    names = list(COLOURS)
    first, second = seen.mask & (index == names.index(look.first)), seen.mask & (index == names.index(look.second))
    if not first.any() and not second.any():
        return 0.0
    rows, columns = np.nonzero(first | second)
    is_second = second[rows, columns]
    best = 0.0
    for dx in (-0.12, 0.0, 0.12):
        for dy in (-0.12, 0.0, 0.12):
            u = ((columns - (left + right) / 2) / radius + dx).astype(np.float32)
            v = ((rows - (top + bottom) / 2) / radius + dy).astype(np.float32)
            painted = looks.paint(look, u, v)
            best = max(best, float(((painted == np.array(COLOURS[look.second])).all(axis=-1) == is_second).mean()))
    return best
