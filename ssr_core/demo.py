"""The first minute: a picture of the drawn world, what each query selects in it, and that subject drawn in new scenes."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image
from tqdm import tqdm

from .hosts.diffusers import generate, ssr
from .hosts.diffusers.load import load_base
from .methods.ssr import formats
from .mini import files
from .mini.backgrounds import BACKGROUNDS
from .mini.scene import SIDE, Scene, random_cast, random_scene
from .mini.vocabulary import check_words
from .sheet import Labelled, heat_picture, sheet

OBJECTS = 3
PROMPTS = 2
STEPS = 20
GUIDANCE = 4.0
STRENGTH = 1.0


def scene(seed: int) -> Scene:
    """A scene of instances that training never saw. They share no colour, so that everybody sees whose look went where."""
    rng = random.Random(f"demo/{seed}")
    while True:
        cast = random_cast(rng, OBJECTS, held_out=True)
        colours = {colour for instance in cast for colour in (instance.look.first, instance.look.second)}
        if len(colours) == 2 * OBJECTS:
            return random_scene(rng, cast)


def run(picture: Image.Image, queries: Sequence[str], seed: int = 0) -> Image.Image:
    """One row for each query: the picture, where the query looks in it, and the subject under two prompts."""
    for query in queries:
        check_words(query)
    base = load_base(files.MINI)
    encoder = formats.load([files.find(files.FOLDER, files.ENCODER)], dtype=next(base.unet.parameters()).dtype)
    pipe = generate.pipeline(base)
    rng = random.Random(seed)
    rows: list[list[Labelled]] = []
    bar = tqdm(total=len(queries) * STEPS, desc="drawing")
    for number, query in enumerate(queries):
        subjects = ssr.encode(base, encoder, picture, query)
        places = rng.sample(list(BACKGROUNDS), PROMPTS)
        prompts = [f"a {query} {BACKGROUNDS[place].phrase}" for place in places]
        noise = generate.noise(base, [seed + 100 * number + i for i in range(PROMPTS)], SIDE, SIDE)
        latents = ssr.sample(
            pipe, encoder, subjects, prompts, noise, steps=STEPS, guidance=GUIDANCE, manner=STRENGTH, on_step=bar.update
        )
        drawn = zip(prompts, generate.decode(base, latents), strict=True)
        rows.append([("reference", picture), (f'query: "{query}"', heat_picture(subjects[0].map())), *drawn])
    bar.close()
    return sheet(rows)
