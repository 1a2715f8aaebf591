"""The text tower, trained on what texts say: its pooled output meets the sum of directions of the facts that a text tells.

Every class, colour, pattern and background is a fact with a fixed direction of its own, all at right angles. The vision tower is
then trained against this space (vision.py). Texts are cheap to draw, so this takes minutes, where learning text and pictures from
each other starts with both knowing nothing.

The pooled output alone does not ask which look is whose. So every class word's own output must tell the look that was said of it
(linear heads, thrown away afterwards): a cross-attention that finds "cat" then finds what the cat looks like.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..hosts.diffusers import mini
from ..mini import files
from ..mini.backgrounds import BACKGROUNDS
from ..mini.looks import COLOURS, PATTERNS, Look
from ..mini.scene import Instance, random_cast, random_scene
from ..mini.shapes import CLASSES
from ..mini.vocabulary import PLACEHOLDERS, ids, tokenizer
from ..training.precision import autocast
from .steps import train

BATCH = 96
LENGTH = 48
"""Longest text, four objects with looks, in tokens. Causal attention: what follows the end token changes nothing before it."""
FACTS = (*CLASSES, *COLOURS, *PATTERNS, *BACKGROUNDS)
SHARPNESS = 20.0


def directions() -> Tensor:
    """[facts, D] orthonormal."""
    square = torch.randn(files.WIDTH, files.WIDTH, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(square).Q[: len(FACTS)]


class Said(NamedTuple):
    """A text of the world, the facts it tells, and of each of its class words, in order, the look it tells, if it does."""

    text: str
    facts: list[str]
    looks: list[Look | None]


class Reader(nn.Module):
    """The text tower and the heads that read looks off class words."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = mini.text_tower()
        self.heads = nn.ModuleList(nn.Linear(files.WIDTH, len(names) + 1) for names in (COLOURS, COLOURS, PATTERNS))


def run(
    out: Path, steps: int, lr: float = 1e-3, start: Path | None = None, device: str = "cpu", deadline: float = math.inf
) -> None:
    """Train and write text_encoder.safetensors (only the world's embedding rows), float16. start: weights to begin with."""
    torch.manual_seed(0)
    model = Reader()
    if start is not None:
        state = mini.text_state(load_file(start))
        model.tower.load_state_dict({name: value.float() for name, value in state.items()})
    model.to(device)
    facts = directions().to(device)
    vocabulary = tokenizer().get_vocab()
    nouns = torch.tensor([vocabulary[kind + "</w>"] for kind in CLASSES], device=device)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = random.Random(step)
        said = [say(rng) for _ in range(BATCH)]
        tokens = tokenizer()(
            [one.text for one in said], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        ).input_ids.to(device)
        with autocast(device):
            output = model.tower(input_ids=tokens)
        embeds = F.normalize(output.text_embeds.float(), dim=-1)
        target = F.normalize(torch.stack([facts[[FACTS.index(name) for name in one.facts]].sum(0) for one in said]), dim=-1)
        cosine = (embeds * target).sum(-1).mean()
        logits = SHARPNESS * embeds @ target.T
        same = (target @ target.T > 0.999).float()  # texts that tell the same
        contrast = -(logits.log_softmax(-1) * same / same.sum(-1, keepdim=True)).sum(-1).mean()
        owned = output.last_hidden_state.float()[torch.isin(tokens, nouns)]  # [class words, D]
        looks = [_indices(look) for one in said for look in one.looks]
        labels = torch.tensor(looks, device=device)  # [class words, 3]
        told = torch.stack([F.cross_entropy(head(owned), labels[:, i]) for i, head in enumerate(model.heads)]).sum()
        return 1 - cosine + contrast + told, {"cosine": cosine.item(), "looks": told.item()}

    average = train(model, loss_of, steps, lr, out / "text.ckpt", deadline=deadline)
    half = {name.removeprefix("tower."): value.half().contiguous() for name, value in average.items() if "tower." in name}
    half[files.EMBEDDING_ROWS] = _rows(half.pop(files.EMBEDDING))
    save_file(half, out / files.TEXT_ENCODER)


def _rows(embedding: Tensor) -> Tensor:
    """[ids, D] of [vocabulary, D]. A placeholder is some thing: the mean of the class words, until a subject stands in its place."""
    vocabulary = tokenizer().get_vocab()
    some = embedding[[vocabulary[kind + "</w>"] for kind in CLASSES]].float().mean(0)
    whole = embedding.clone()
    whole[[vocabulary[letter + "</w>"] for letter in PLACEHOLDERS]] = some.to(embedding.dtype)
    return whole[ids()]


def say(rng: random.Random) -> Said:
    """A text of the world and what it tells."""
    cast = random_cast(rng, rng.randint(1, 4))
    background = rng.choice(tuple(BACKGROUNDS))
    scene = random_scene(rng, cast, background)
    kinds, looks = [one.kind for one in cast], [fact for one in cast for fact in _facts(one)]
    match rng.randrange(6):
        case 0:
            return Said(scene.told, [*kinds, *looks, background], [one.look for one in cast])
        case 1:
            return Said(scene.caption, [*kinds, background], [None] * len(cast))
        case 2:
            return Said(cast[0].phrase, [kinds[0], *_facts(cast[0])], [cast[0].look])
        case 3:
            return Said(f"{rng.choice(['', 'a ', 'the '])}{kinds[0]}", [kinds[0]], [None])
        case 4:
            return Said(BACKGROUNDS[background].phrase, [background], [])
        case _:
            fact = rng.choice(_facts(cast[0]))
            look = Look(fact, "", "") if fact in PATTERNS else Look("", fact, "")
            return Said(f"{rng.choice(['', 'the '])}{fact} {kinds[0]}", [fact, kinds[0]], [look])


def _facts(instance: Instance) -> list[str]:
    return [instance.look.first, instance.look.second, instance.look.pattern]


def _indices(look: Look | None) -> tuple[int, int, int]:
    """Class numbers of first colour, second colour and pattern; 0 for what is not told."""
    if look is None:
        return 0, 0, 0
    colours, patterns = ("", *COLOURS), ("", *PATTERNS)
    return colours.index(look.first), colours.index(look.second), patterns.index(look.pattern)
