"""How strongly heads attend to words of the text, and a branch that this gates."""

import pytest
import torch

from ssr_core.attention import Branch, add_branches, plan_spans, scaled_dot_product
from ssr_core.merge import token_gate, word_attention, words_at

HEADS, WIDTH, LENGTH, TOKENS = 2, 8, 5, 6


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def query():
    return 3 * numbers(4, LENGTH, WIDTH)


@pytest.fixture
def text_key():
    return 3 * numbers(4, TOKENS, WIDTH, seed=1)


def test_a_pictures_gate_does_not_depend_on_its_neighbours(query, text_key):
    word = words_at([[[1], [3]]], TOKENS)
    together = token_gate(query, text_key, word, HEADS)
    assert together.shape == (1, 2, 2, LENGTH, HEADS)
    for chunk in range(2):
        for picture in range(2):
            row = slice(2 * chunk + picture, 2 * chunk + picture + 1)
            alone = token_gate(query[row], text_key[row], word[:, chunk : chunk + 1], HEADS)
            torch.testing.assert_close(together[0, chunk, picture], alone[0, 0, 0])
            assert alone.max() == 1.0


def test_the_gate_is_the_probability_of_every_head(query, text_key):
    q, k = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query[:1], text_key[:1]))
    expected = (q @ k.transpose(-1, -2) * (WIDTH / HEADS) ** -0.5).softmax(-1)[0, :, :, 2].T  # [L, heads]
    found = word_attention(query[:1], text_key[:1], words_at([[[2]]], TOKENS), HEADS)[0, 0, 0]
    torch.testing.assert_close(found, expected)


def test_several_places_of_a_word_are_summed_before_the_maximum(query, text_key):
    one, other = (word_attention(query, text_key, words_at([[[place], [place]]], TOKENS), HEADS) for place in (1, 4))
    both = token_gate(query, text_key, words_at([[[1, 4], [1, 4]]], TOKENS), HEADS)
    added = one + other
    torch.testing.assert_close(both, added / added.amax(dim=(3, 4), keepdim=True))


def test_words_of_one_text_have_a_gate_each(query, text_key):
    places = [[[1], [2]], [[], [3, 4]]]
    together = token_gate(query, text_key, words_at(places, TOKENS), HEADS)
    for word, own in zip(together, places, strict=True):
        torch.testing.assert_close(word, token_gate(query, text_key, words_at([own], TOKENS), HEADS)[0])


def test_pictures_may_share_their_chunks_text(query, text_key):
    shared = text_key[:1]
    word = words_at([[[2]]], TOKENS)
    torch.testing.assert_close(token_gate(query, shared, word, HEADS), token_gate(query, shared.expand(4, -1, -1), word, HEADS))


def test_a_chunk_without_the_word_gets_nothing(query, text_key):
    weights = token_gate(query, text_key, words_at([[[], [1]]], TOKENS), HEADS)
    assert not weights[0, 0].any()
    assert weights[0, 1].any()


def test_products_beyond_half_precision_before_the_scale_are_no_infinities(query, text_key):
    q, k = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, text_key))
    factor = (1e5 / float((q @ k.transpose(-1, -2)).abs().max())) ** 0.5  # half of it still is a number
    weights = token_gate((factor * query).half(), (factor * text_key).half(), words_at([[[1], [2]]], TOKENS), HEADS)
    assert bool(weights.isfinite().all())


def test_strength_zero_changes_no_bit(query, text_key):
    text = numbers(4, LENGTH, WIDTH, seed=3)
    key, value = numbers(2, 7, WIDTH, seed=4), numbers(2, 7, WIDTH, seed=5)
    (gate,) = token_gate(query, text_key, words_at([[[1], [2]]], TOKENS), HEADS)
    branch = Branch(key, value, 0.0, gate)
    assert torch.equal(add_branches(text, query, [branch], plan_spans([0, 1]), 2, HEADS), text)


def test_tokens_outside_the_mask_stay_in_the_softmax(query, text_key):
    """Zero vectors take their share: without them the branch is stronger."""
    key, value = numbers(1, 7, WIDTH, seed=4), numbers(1, 7, WIDTH, seed=5)
    key[:, 3:], value[:, 3:] = 0.0, 0.0
    (gate,) = token_gate(query, text_key, words_at([[[1]]], TOKENS), HEADS)
    out = add_branches(torch.zeros_like(query), query, [Branch(key, value, 0.8, gate)], plan_spans([0]), 1, HEADS)
    whole = scaled_dot_product(query, key.expand(4, -1, -1), value.expand(4, -1, -1), HEADS)
    expected = 0.8 * (whole.unflatten(-1, (HEADS, -1)) * gate[0][..., None]).flatten(-2)
    torch.testing.assert_close(out, expected)
    fewer = scaled_dot_product(query, key[:, :3].expand(4, -1, -1), value[:, :3].expand(4, -1, -1), HEADS)
    assert not torch.allclose(whole, fewer)
