"""LASR's embedders: what they read, in which precision, who they are, and what words make of them at first."""

import pytest
import torch
from support.lasr_subjects import TINY, WIDTH, embedder

from ssr_core.layout import SD15, UNetLayout
from ssr_core.methods.lasr.embedder import EmbedderShapes, fingerprint, pooled_features
from ssr_core.methods.lasr.from_words import (
    embedder_from_words,
    one_token,
    rank_of,
    word_tokens,
    word_vectors,
)

PIECES = {"tabby": [(7, "tab"), (8, "by</w>")], "cat": [(9, "cat</w>")], "z": [(345, "z</w>")]}


def tokenize(text):
    return [token for word in text.split() for token in PIECES.get(word, [(1, "?</w>")])]


def test_layers_of_sd15_are_the_authors():
    layers = EmbedderShapes(SD15, 768, 1, 3).layers
    assert [layer.block[:2] for layer in layers] == [
        *(("input", number) for number in (1, 2, 4, 5, 7, 8)), ("middle", 0), *(("output", number) for number in range(3, 12)),
    ]  # fmt: skip
    assert [layer.enters for layer in layers] == [
        320, 320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320,
    ]  # fmt: skip


def test_a_block_with_several_cross_attentions_is_one_layer():
    deep = UNetLayout(channels=(16, 32), depths=(1, 3), resnets=1, heads=4)
    assert len(EmbedderShapes(deep, WIDTH, 1, 3).layers) == 2 + 1 + 4


@pytest.mark.parametrize(("words", "rank"), [(0, 3), (3, 3), (2, 17), (-1, 2)])
def test_impossible_ranks_are_refused(words, rank):
    with pytest.raises(ValueError, match="rank is above the number of words and at most 16"):
        EmbedderShapes(TINY, WIDTH, words, rank)


def test_autocast_does_not_round_what_is_learned():
    made = embedder()
    pooled, time = torch.randn(2, 16), torch.randn(2, 64)
    exact = made.static(), made.lasr(0, pooled, time)
    with torch.autocast("cpu", torch.bfloat16):
        found = made.static(), made.lasr(0, pooled, time)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_only_the_first_half_as_many_time_numbers_are_read():
    made, pooled, time = embedder(), torch.randn(2, 16), torch.randn(2, 64)
    changed = time.clone()
    changed[:, 8:] = 0
    assert torch.equal(made.lasr(0, pooled, time), made.lasr(0, pooled, changed))
    changed[:, 7] += 1
    assert not torch.equal(made.lasr(0, pooled, time), made.lasr(0, pooled, changed))


def test_no_gradient_reaches_the_unet_through_features():
    features = torch.randn(1, 16, 4, 4, requires_grad=True)
    assert not pooled_features(features).requires_grad
    assert not pooled_features(features, torch.ones(1, 8, 8)).requires_grad


def test_a_mask_of_ones_pools_as_no_mask():
    features = torch.randn(2, 16, 4, 6)
    torch.testing.assert_close(pooled_features(features, torch.ones(2, 32, 48)), pooled_features(features))


def test_half_precision_features_are_pooled_in_full_precision():
    features = torch.randn(1, 16, 64, 64)
    torch.testing.assert_close(pooled_features(features.half()), features.half().float().mean((2, 3)))


def test_the_fingerprint_is_of_what_was_learned():
    one, other = embedder(0), embedder(0)
    assert fingerprint(one.state_dict(), one.shapes) == fingerprint(other.state_dict(), other.shapes)
    with torch.no_grad():
        other.static.bias_scales[0] += 1e-3
    assert fingerprint(one.state_dict(), one.shapes) != fingerprint(other.state_dict(), other.shapes)


def test_fingerprints_of_files_that_exist_do_not_change():
    made = embedder()
    state = {name: torch.full_like(value, 0.5) for name, value in made.state_dict().items()}
    assert fingerprint(state, made.shapes) == "91e3cc395fa34ee51d7957d55b8e9ea6"


def test_a_word_that_splits_gives_its_weight_to_each_token():
    assert word_tokens("tabby cat", [1, 2], tokenize) == ((7, 1.0), (8, 1.0), (9, 2.0))


def test_words_without_weights_count_alike():
    assert [weight for _, weight in word_tokens("cat z", [], tokenize)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "weights", "message"),
    [
        ("", [], "no words"),
        ("tabby cat", [1], r"1 weights for 2 words"),
        ("cat", [-1], "weight of a word is -1"),
        ("cat", [float("nan")], "nan"),
        ("cat z", [0, 0], "weight of zero"),
        ("a b c d e f g h", [], "room for 1 to 7"),
        ("x" * 1000, [], "too long"),
    ],
)
def test_words_that_make_no_subject_are_refused(text, weights, message):
    with pytest.raises(ValueError, match=message):
        word_tokens(text, weights, tokenize)


def test_a_placeholder_of_several_tokens_is_refused_with_its_pieces():
    assert one_token("z", tokenize, "placeholder", "z") == 345
    with pytest.raises(ValueError, match=r'placeholder "tabby" must be one token .* found 2 \(tab by\)'):
        one_token("tabby", tokenize, "placeholder", "z")
    with pytest.raises(ValueError, match=r"found 0 \(none\)"):
        one_token("", tokenize, "class word", "dog")


def test_ranks_round_halves_to_the_even_number():
    assert [rank_of(words) for words in (1, 2, 3, 7)] == [3, 5, 7, 15]
    assert rank_of(1, 1.5) == 2
    assert rank_of(3, 0.5) == 2


def test_the_same_seed_makes_the_same_embedder():
    vectors = word_vectors([0, 2], torch.randn(3, WIDTH))

    def made(seed):
        return embedder_from_words(vectors, [1, 2], torch.Generator().manual_seed(seed), TINY).state_dict()

    torch.manual_seed(0)
    first = made(5)
    torch.manual_seed(1)
    assert all(torch.equal(first[name], value) for name, value in made(5).items())
    assert not torch.equal(first["lasr.layer_maps.0.weight"], made(6)["lasr.layer_maps.0.weight"])
