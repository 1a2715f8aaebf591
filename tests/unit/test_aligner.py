"""The aligner as users notice it: batches, masks and maps. Xiaojiu-z/SSR_Encoder's numbers are in tests/golden."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_core.methods.ssr.aligner import Aligner, mask_bias

TEXT, VISION, SCALES, TOKENS, PATCHES = 12, 20, 3, 7, 17


@pytest.fixture(scope="module")
def aligner():
    torch.manual_seed(0)
    return Aligner(TEXT, VISION, 16, 4, SCALES).requires_grad_(False)


def inputs(pictures, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(pictures, TOKENS, TEXT, generator=generator),
        torch.randn(pictures, SCALES, PATCHES, VISION, generator=generator),
        torch.rand(pictures, PATCHES - 1, generator=generator),
    )


@pytest.mark.parametrize("masked", [False, True])
def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(aligner, masked):
    query, features, mask = inputs(3)
    together = aligner(query, features, mask if masked else None, 2.5)
    for index in range(3):
        one = slice(index, index + 1)
        alone = aligner(query[one], features[one], mask[one] if masked else None, 2.5)
        torch.testing.assert_close(together.tokens[one], alone.tokens)
        torch.testing.assert_close(together.attention[one], alone.attention)


def test_one_query_and_one_mask_serve_many_pictures(aligner):
    query, features, mask = inputs(3)
    shared = aligner(query[:1], features, mask[:1], 1.0)
    copied = aligner(query[:1].expand(3, -1, -1), features, mask[:1].expand(3, -1), 1.0)
    assert shared.tokens.shape == (3, SCALES * TOKENS, TEXT)
    assert shared.attention.shape == (3, TOKENS, PATCHES)
    torch.testing.assert_close(shared.tokens, copied.tokens)
    torch.testing.assert_close(shared.attention, copied.attention)


def test_a_full_mask_of_weight_one_is_no_mask(aligner):
    query, features, mask = inputs(2)
    plain, full = aligner(query, features), aligner(query, features, torch.ones_like(mask), 1.0)
    torch.testing.assert_close(full.tokens, plain.tokens)
    torch.testing.assert_close(full.attention, plain.attention)


@settings(deadline=None, max_examples=25)
@given(weight=st.floats(0, 10), seed=st.integers(0, 2**16))
def test_the_attention_to_all_patches_sums_to_one(aligner, weight, seed):
    query, features, mask = inputs(2, seed)
    for aligned in (aligner(query, features), aligner(query, features, mask, weight)):
        torch.testing.assert_close(aligned.attention.sum(-1), torch.ones(2, TOKENS))
        assert aligned.attention.min() >= 0


def test_a_mask_moves_the_attention_inside(aligner):
    query, features, _ = inputs(1)
    mask = torch.zeros(1, PATCHES - 1)
    mask[:, :4] = 1
    inside = [float(aligner(query, features, mask, weight).attention[..., 1:5].sum(-1).mean()) for weight in (1, 2.5, 5)]
    assert inside == sorted(inside)
    assert inside[-1] > 0.999


def test_the_bias_is_minus_w_outside_w_squared_inside_and_one_on_cls():
    bias = mask_bias(torch.tensor([[0.0, 1.0]]), 2.5)
    assert bias.flatten().tolist() == [1.0, -2.5, 6.25]


def test_the_deepest_scale_alone_decides_where_the_query_looks(aligner):
    query, features, _ = inputs(1)
    changed = features.clone()
    changed[:, :-1] += 1
    assert torch.equal(aligner(query, changed).attention, aligner(query, features).attention)
    assert not torch.allclose(aligner(query, changed).tokens, aligner(query, features).tokens)


@pytest.mark.parametrize("masked", [False, True])
def test_the_map_of_a_half_precision_aligner_is_still_float32(aligner, masked):
    query, features, mask = inputs(1)
    mask = mask if masked else None
    half = Aligner(TEXT, VISION, 16, 4, SCALES, dtype=torch.bfloat16).requires_grad_(False)
    half.load_state_dict(aligner.state_dict())
    aligned = half(query.bfloat16(), features.bfloat16(), mask, 1.0)
    assert aligned.attention.dtype == torch.float32
    assert aligned.tokens.dtype == torch.bfloat16
    torch.testing.assert_close(aligned.tokens.float(), aligner(query, features, mask, 1.0).tokens, atol=0.1, rtol=0.1)
