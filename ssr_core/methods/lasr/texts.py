"""What prompts a subject is learned with: frames around its placeholder, and phrases that put it into a scene.

A frame stands alone or before a phrase; with the word for the subject's class in place of the placeholder it is the class's prompt.
Phrases suit what the subject is: people read books, teapots do not. Knows words only; which are drawn in a step says draws.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle

from ...mini.backgrounds import BACKGROUNDS
from ...mini.shapes import CLASSES
from ...shown import shown

PLACE = "{}"
"""Where the placeholder or the class word stands in a frame."""


@dataclass(frozen=True)
class Texts:
    """frames: each with a PLACE; phrases: patterns, each with what it expands to, so that a pattern of many does not crowd out others."""

    frames: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    def frame(self, chance: random.Random) -> str:
        return chance.choice(self.frames)

    def phrase(self, chance: random.Random) -> str:
        return chance.choice(chance.choice(self.phrases))


def named(frame: str, word: str) -> str:
    """A frame with a word in its place."""
    return frame.replace(PLACE, word)


def _photo_frames() -> tuple[str, ...]:
    """Along the lines of Textual Inversion's frames (rinongal/textual_inversion, ldm/data/personalized.py): an article, for some a quality,
    a medium, "of", and a determiner."""
    determiners = cycle(("a", "the", "my", "one"))
    looks = ("clean", "dirty", "dark", "cool", "close-up", "bright", "cropped", "good", "nice", "small", "weird", "large")
    plain = [f"{article} {medium} of" for medium in ("photo", "rendering", "depiction") for article in ("a", "the")]
    told = [f"a {look} {medium} of" for medium in ("photo", "rendition", "depiction") for look in looks]
    sized = [f"a photo of a {look} {PLACE}" for look in ("clean", "dirty", "cool", "nice", "small", "weird", "large")]
    return (*(f"{start} {next(determiners)} {PLACE}" for start in (*plain, *plain, *told)), *sized)


def _each(start: str, ends: str) -> tuple[str, ...]:
    return tuple(f"{start} {end}" for end in ends.split(", "))


_OUTDOORS = _each("in", "the snow, a forest, the desert, a garden, the rain, a field of flowers, the mountains, a busy street")
_WATER = (*_each("on", "a beach, a boat, a pier"), *_each("beside", "a lake, a river, a waterfall, the sea"))
_PLACES = _each("in front of", "the Eiffel Tower, a castle, a red brick wall, a window, a shop, a temple")
_INDOORS = _each("in", "a kitchen, a library, a cafe, a museum, a bedroom, a train")
_STYLES = tuple(
    f"in the style of {one}"
    for one in ["watercolor", "an oil painting", "a comic book", "pixel art", "anime", "a pencil sketch"]
)
_TAGS = (", highly detailed", ", soft light", ", at night", ", at sunset", ", black and white", ", sharp focus")
_COMMON = (_OUTDOORS, _WATER, _PLACES, _INDOORS, _STYLES, _TAGS)

_PERSON = (
    _each("reading", "a book, a newspaper, a letter, a map"),
    _each("playing", "the guitar, the piano, football, chess, tennis"),
    _each("riding", "a horse, a bicycle, a motorcycle, a train"),
    _each("cooking", "soup, dinner, pasta, pancakes"),
    _each("talking with", "a friend, a child, a crowd, an old man"),
    _each("walking", "a dog, up the stairs, across a bridge, in the park"),
    _each("sitting on", "a chair, a bench, a sofa, the grass"),
    _each("wearing", "a red hat, a suit, sunglasses, a coat, a uniform, a white dress"),
    _each("drinking", "tea, coffee, juice, from a bottle"),
    _each("eating", "an apple, bread, noodles, ice cream"),
    _each("dancing", "on a stage, in the rain, at a party"),
    _each("holding", "flowers, an umbrella, a camera, a cup"),
)
_ANIMAL = (
    _each("playing with", "a ball, a stick, a child, a toy"),
    _each("sleeping on", "a sofa, a pillow, the floor, a chair"),
    _each("running", "on the grass, along a road, through the snow"),
    _each("jumping over", "a fence, a log, a puddle"),
    _each("eating", "from a bowl, fish, meat, an apple"),
    _each("looking at", "the camera, a bird, the moon, a butterfly"),
    _each("sitting in", "a box, a basket, a car, a bathtub"),
    _each("wearing", "a red hat, a scarf, a collar, a crown, glasses"),
    _each("swimming in", "a pool, a lake, the sea"),
)
_OBJECT = (
    _each("on", "a wooden table, a shelf, the floor, a rock, a blue carpet, a white cloth"),
    _each("next to", "a cup of tea, a vase, a lamp, a pile of books, a cat"),
    _each("in the hands of", "a child, an old woman, a chef"),
    _each("made of", "gold, glass, wood, stone, lego"),
    _each("full of", "water, flowers, sand"),
    _each("floating", "on water, in the air, in space"),
    _each("with", "a mountain in the background, a city in the background, a tree and autumn leaves in the background"),
    _each("under", "a tree, a bridge, a street lamp"),
)

AUTO, DRAWN = "auto", "drawn world"
TEXTS: dict[str, Texts] = {
    "person": Texts(_photo_frames(), (*_PERSON, *_COMMON)),
    "animal": Texts(_photo_frames(), (*_ANIMAL, *_COMMON)),
    "object": Texts(_photo_frames(), (*_OBJECT, *_COMMON)),
    DRAWN: Texts(
        (f"a {PLACE}", f"the {PLACE}", f"a picture of a {PLACE}", f"a picture of the {PLACE}"),
        (
            tuple(background.phrase for background in BACKGROUNDS.values()),
            tuple(f"with a {kind}" for kind in CLASSES if kind[0] not in "aeiou"),
        ),
    ),
}
"""By what the subject is; SSR Mini knows the words of its drawn world only."""
OF_FRAMES = frozenset(word for texts in TEXTS.values() for frame in texts.frames for word in frame.split()) - {PLACE}
"""Words that stand around a placeholder, so that none of them can be one."""


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


PEOPLE = _words(
    "person man woman boy girl baby child kid guy lady actor actress singer king queen face human people male female",
)
ANIMALS = _words(
    "cat dog puppy kitten bird horse cow sheep pig rabbit bunny hamster fish lion tiger bear wolf fox elephant monkey duck chicken",
    "parrot turtle frog snake corgi tabby poodle goat mouse animal pet",
)


def kind_of(class_word: str, given: str = AUTO, knows_photos: bool = True) -> str:
    """Which of TEXTS suits. given: what a user chose, or AUTO; knows_photos: whether the text encoder knows more than the drawn world.
    Raises ValueError for a choice that there is not."""
    if not knows_photos:
        return DRAWN
    if given != AUTO:
        if given not in TEXTS:
            raise ValueError(f'"{shown(given, 40)}" is no kind of subject; expected {", ".join((AUTO, *TEXTS))}.')
        return given
    word = class_word.strip().lower()
    return "person" if word in PEOPLE else "animal" if word in ANIMALS else "object"


def caption_frames(captions: Iterable[str], placeholder: str) -> tuple[str, ...]:
    """Captions of pictures, each with the placeholder as a word of its own, as frames. Raises ValueError for one without."""
    frames = []
    for number, caption in enumerate(captions, start=1):
        words = caption.split()
        if placeholder not in words:
            raise ValueError(
                f'The caption of picture {number}, "{shown(caption, 80)}", does not have the placeholder "{shown(placeholder, 40)}" as a '
                f'word of its own. Write it where the subject is named, as in "a photo of a {shown(placeholder, 40)} on a table".'
            )
        frames.append(" ".join(PLACE if word == placeholder else word.replace(PLACE, "") for word in words))
    return tuple(frames)
