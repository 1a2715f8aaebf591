"""The text tower, trained on what texts say: its pooled output learns to be the sum of the directions of the facts in a text.

Every class, colour, pattern and background is a fact with a fixed direction of its own, all at right angles. The vision tower is
then trained against this space (vision.py). Texts cost nothing to make, so this takes minutes; towers that are trained on each other
start with both knowing nothing.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ..hosts.diffusers import mini
from ..mini import files
from ..mini.backgrounds import BACKGROUNDS
from ..mini.looks import COLOURS, PATTERNS
from ..mini.scene import Instance, random_cast, random_scene
from ..mini.shapes import CLASSES
from ..mini.vocabulary import ids, tokenizer
from .steps import train

BATCH = 96
LENGTH = 48
"""Tokens of the longest text, four objects with looks. Attention is causal, so padding after the end token changes nothing before it."""
FACTS = (*CLASSES, *COLOURS, *PATTERNS, *BACKGROUNDS)
SHARPNESS = 20.0


def directions() -> Tensor:
    """[facts, D] orthonormal."""
    square = torch.randn(files.WIDTH, files.WIDTH, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(square).Q[: len(FACTS)]


def run(out: Path, steps: int, lr: float = 1e-3) -> None:
    """Train and write text_encoder.safetensors (only the world's embedding rows), float16."""
    torch.manual_seed(0)
    model = mini.text_tower()
    facts = directions()

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = random.Random(step)
        said = [say(rng) for _ in range(BATCH)]
        tokens = tokenizer()(
            [text for text, _ in said], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embeds = F.normalize(model(input_ids=tokens.input_ids).text_embeds.float(), dim=-1)
        target = F.normalize(torch.stack([facts[[FACTS.index(name) for name in names]].sum(0) for _, names in said]), dim=-1)
        cosine = (embeds * target).sum(-1).mean()
        logits = SHARPNESS * embeds @ target.T
        same = (target @ target.T > 0.999).float()  # texts that tell the same facts
        contrast = -(logits.log_softmax(-1) * same / same.sum(-1, keepdim=True)).sum(-1).mean()
        return 1 - cosine + contrast, {"cosine": cosine.item()}

    average = train(model, loss_of, steps, lr, out / "text.ckpt")
    half = {name: value.half().contiguous() for name, value in average.items()}
    half[files.EMBEDDING_ROWS] = half.pop(files.EMBEDDING)[ids()]
    save_file(half, out / files.TEXT_ENCODER)


def say(rng: random.Random) -> tuple[str, list[str]]:
    """A text of the world and the facts it tells."""
    cast = random_cast(rng, rng.randint(1, 4))
    background = rng.choice(tuple(BACKGROUNDS))
    scene = random_scene(rng, cast, background)
    kinds, looks = [one.kind for one in cast], [fact for one in cast for fact in _look(one)]
    match rng.randrange(6):
        case 0:
            return scene.told, [*kinds, *looks, background]
        case 1:
            return scene.caption, [*kinds, background]
        case 2:
            return cast[0].phrase, [kinds[0], *_look(cast[0])]
        case 3:
            return f"{rng.choice(['', 'a ', 'the '])}{kinds[0]}", [kinds[0]]
        case 4:
            return BACKGROUNDS[background].phrase, [background]
        case _:
            fact = rng.choice(_look(cast[0]))
            return f"{rng.choice(['', 'the '])}{fact} {kinds[0]}", [fact, kinds[0]]


def _look(instance: Instance) -> list[str]:
    return [instance.look.first, instance.look.second, instance.look.pattern]
