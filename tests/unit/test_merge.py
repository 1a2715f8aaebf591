"""How branches share a position: by the formula, whatever words there are and however irrelevant they are."""

import torch

from ssr_core.merge import word_shares

HEADS, WIDTH, LENGTH = 2, 8, 6


def random_query(generator, pictures):
    return torch.randn(pictures, LENGTH, WIDTH, generator=generator)


def naive_shares(query, word_keys):
    """Position by position, head by head and word by word, in float64."""
    size = WIDTH // HEADS
    relevance = torch.zeros(len(word_keys), *query.shape[:2], dtype=torch.float64)
    for number, key in enumerate(word_keys):
        for picture in range(query.shape[0]):
            maps = [
                (query[picture, :, part].double() @ word[part].double() / size**0.5).softmax(dim=0)
                for word in key
                for part in (slice(head * size, (head + 1) * size) for head in range(HEADS))
            ]
            relevance[number, picture] = torch.stack(maps).mean(dim=0)
    return (relevance / relevance.sum(dim=0))[..., None]


def test_positions_are_shared_out_as_the_formula_says():
    generator = torch.Generator().manual_seed(0)
    query = random_query(generator, 4)
    keys = [torch.randn(words, WIDTH, generator=generator) for words in (1, 3, 2)]
    shares = word_shares(query, keys, HEADS)
    assert shares.shape == (3, 4, LENGTH, 1)
    torch.testing.assert_close(shares.double(), naive_shares(query, keys), atol=1e-6, rtol=1e-5)
    assert torch.equal(word_shares(query, keys[:1], HEADS), torch.ones(1, 4, LENGTH, 1))


def test_a_subject_without_words_is_as_relevant_everywhere_as_an_even_map():
    generator = torch.Generator().manual_seed(0)
    query = random_query(generator, 1)
    word = torch.randn(1, WIDTH, generator=generator)
    silent = torch.zeros(1, WIDTH)  # its softmax over the positions is even
    expected = word_shares(query, [word, silent], HEADS)
    assert torch.equal(word_shares(query, [word, word[:0]], HEADS), expected)


def test_words_that_are_irrelevant_at_a_position_share_it_equally_and_never_divide_by_zero():
    query = torch.zeros(1, 2, WIDTH)
    query[0, 0] = 1e4
    key = torch.full((1, WIDTH), 1e4)
    shares = word_shares(query, [key, key.clone()], HEADS)
    assert torch.equal(shares, torch.full_like(shares, 0.5))
