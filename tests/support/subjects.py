"""Small subjects of random numbers, for tests of what is done with them."""

from dataclasses import replace

import torch

from ssr_core.methods.ssr.subject import Subject
from ssr_core.words import Word

WORDS = (Word("red", 1, 2), Word("dog", 2, 4))


def make(seed=0, tokens=6, dtype=torch.float32, words=WORDS, **changes):
    generator = torch.Generator().manual_seed(seed)
    made = Subject(
        tokens=torch.randn(tokens, 4, generator=generator).to(dtype),
        null_tokens=torch.randn(tokens, 4, generator=generator).to(dtype),
        attention=torch.rand(5, 17, generator=generator).softmax(-1),
        picture=torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8),
        query="red dog",
        words=words,
        encoder="0123456789abcdef0123456789abcdef",
        source_size=(480, 640),
        word_embeds=torch.randn(sum(word.stop - word.first for word in words), 4, generator=generator),
    )
    return replace(made, **changes)
