"""Small learned subjects of random numbers, for tests of what is done with them."""

from dataclasses import replace

import torch

from ssr_core.layout import UNetLayout
from ssr_core.methods.lasr.embedder import EmbedderShapes, SubjectEmbedder
from ssr_core.methods.lasr.subject import BaseModel, LasrSubject, Learning, weights_of

TINY = UNetLayout(channels=(16, 32), depths=(1, 0), resnets=1, heads=4)
WIDTH = 24


def embedder(seed=0, layout=TINY, width=WIDTH, words=2, rank=5):
    made = SubjectEmbedder(EmbedderShapes(layout, width, words, rank))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


def make(seed=0, **changes):
    made = embedder(seed)
    subject = LasrSubject(
        made.shapes,
        weights_of(made),
        "z",
        345,
        base=BaseModel("a tiny model", "0123456789abcdef0123456789abcdef"),
        learning=Learning((("tabby", 1.0), ("cat", 2.0)), "cat", 400, "repaired"),
        vectors=torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(seed + 1)),
    )
    return replace(subject, **changes)
