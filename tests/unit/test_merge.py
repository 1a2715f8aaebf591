"""How branches share a position: by the formula, whatever words there are and however irrelevant they are."""

import torch

from ssr_core.merge import text_gate, word_shares

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
    shares = word_shares(query, [key[None] for key in keys], HEADS)
    assert shares.shape == (3, 4, LENGTH, 1)
    torch.testing.assert_close(shares.double(), naive_shares(query, keys), atol=1e-6, rtol=1e-5)
    assert torch.equal(word_shares(query, [keys[0][None]], HEADS), torch.ones(1, 4, LENGTH, 1))


def test_a_subject_without_words_is_as_relevant_everywhere_as_an_even_map():
    generator = torch.Generator().manual_seed(0)
    query = random_query(generator, 1)
    word = torch.randn(1, 1, WIDTH, generator=generator)
    silent = torch.zeros(1, 1, WIDTH)  # its softmax over the positions is even
    expected = word_shares(query, [word, silent], HEADS)
    assert torch.equal(word_shares(query, [word, word[:, :0]], HEADS), expected)


def test_words_that_are_irrelevant_at_a_position_share_it_equally_and_never_divide_by_zero():
    query = torch.zeros(1, 2, WIDTH)
    query[0, 0] = 1e4
    key = torch.full((1, 1, WIDTH), 1e4)
    shares = word_shares(query, [key, key.clone()], HEADS)
    assert torch.equal(shares, torch.full_like(shares, 0.5))


def test_rows_of_keys_serve_their_own_part_of_the_batch():
    generator = torch.Generator().manual_seed(0)
    query = random_query(generator, 4)
    keys = [torch.randn(2, words, WIDTH, generator=generator) for words in (1, 2)]
    shares = word_shares(query, keys, HEADS)
    for row in range(2):
        alone = word_shares(query[2 * row : 2 * row + 2], [key[row : row + 1] for key in keys], HEADS)
        torch.testing.assert_close(shares[:, 2 * row : 2 * row + 2], alone)


def test_positions_are_shared_among_those_alone_that_may_act_there():
    generator = torch.Generator().manual_seed(0)
    query = random_query(generator, 1)
    keys = [torch.randn(1, 1, WIDTH, generator=generator) for _ in range(3)]
    covers = torch.tensor([[1, 1, 0, 0.5, 0, 1], [1, 0, 0, 1, 0.2, 0], [0, 0, 0, 1, 0, 1]])[:, None, :, None]
    shares = word_shares(query, keys, HEADS, covers)
    free = word_shares(query, keys, HEADS) * (covers > 0)
    expected = free / free.sum(dim=0).clamp_min(1e-30)
    torch.testing.assert_close(shares, expected)
    assert torch.equal(shares[:, 0, 2, 0], torch.zeros(3))
    assert shares[1, 0, 4, 0] == 1


def test_large_queries_in_half_precision_share_out_finite_numbers():
    generator = torch.Generator().manual_seed(0)
    query = 1e3 * random_query(generator, 2).half()
    shares = word_shares(query, [1e3 * torch.randn(1, 2, WIDTH, generator=generator).half() for _ in range(2)], HEADS)
    assert bool(shares.isfinite().all())
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(2, LENGTH, 1))


def test_the_gate_is_one_on_average_and_one_everywhere_for_no_direction():
    text = torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    gate = text_gate(text, torch.linspace(-1, 1, WIDTH))
    torch.testing.assert_close(gate.mean(dim=1), torch.ones(3, 1))
    opened = torch.sigmoid(text.double() @ torch.linspace(-1, 1, WIDTH).double())
    torch.testing.assert_close(gate[..., 0].double(), opened / opened.mean(dim=1, keepdim=True), atol=1e-6, rtol=1e-6)
    assert torch.equal(text_gate(text, torch.zeros(WIDTH)), torch.ones(3, LENGTH, 1))
    assert torch.equal(text_gate(text.abs(), torch.full((WIDTH,), -1e4)), torch.ones(3, LENGTH, 1))  # all closed alike: none is
