"""LASR's contexts: which rows the text encoder sees, who stands where, and that rows of a batch do not touch each other."""

from dataclasses import replace

import pytest
import torch
from support.lasr_subjects import WIDTH, embedder

from ssr_core.methods.lasr.contexts import (
    Learned,
    check_named,
    checked_alpha,
    doubts,
    layer_context,
    mixed,
    of_layer,
    prompts_of,
    static_contexts,
)

Z, Y, T = 345, 344, 7
LAYERS = 4


class TextEncoder:
    """A causal one of random weights that counts its rows and calls."""

    def __init__(self, chunk=T):
        generator = torch.Generator().manual_seed(3)
        self.map = torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5
        self.table = torch.randn(400, WIDTH, generator=generator)
        self.chunk, self.calls = chunk, []

    def __call__(self, rows):
        assert rows.shape[1] == self.chunk
        self.calls.append(len(rows))
        return torch.tanh((rows @ self.map).cumsum(dim=1))

    def prompts(self, *rows, tokens=(Z,)):
        ids = torch.tensor([[*row, *[1] * (-len(row) % self.chunk)] for row in rows])
        return prompts_of(ids, self.table[ids], tokens, self.chunk)


def inputs(batch, width=16):
    """What enters a layer, and the time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, width, 4, 4, generator=generator), torch.randn(batch, 64, generator=generator)


def test_a_prompt_without_placeholder_is_encoded_once_and_not_again():
    encoder, subjects = TextEncoder(), [Learned(embedder(), Z)]
    prompts = encoder.prompts([5, 6], [5, 6, 7])
    static = static_contexts(encoder, prompts, subjects)
    assert static.shape == (2, 1, T, WIDTH)
    assert encoder.calls == [2]
    assert torch.equal(static[:, 0], TextEncoder()(prompts.embeds))
    context = layer_context(encoder, prompts, of_layer(static, 3), subjects, 3, *inputs(2))
    assert encoder.calls == [2]
    assert torch.equal(context, static[:, 0])


def test_one_batch_of_the_text_encoder_for_all_rows_of_a_layer_that_need_it():
    encoder, subjects = TextEncoder(), [Learned(embedder(), Z)]
    prompts = encoder.prompts([5], [5], [5, Z], [Z])
    static = static_contexts(encoder, prompts, subjects)
    assert encoder.calls == [2, 2 * LAYERS]
    layer_context(encoder, prompts, of_layer(static, 0), subjects, 0, *inputs(4))
    assert encoder.calls[2:] == [2]


def test_alpha_zero_never_asks_the_text_encoder_and_changes_no_bit():
    encoder, subjects = TextEncoder(), [Learned(embedder(), Z)]
    prompts = encoder.prompts([5, Z])
    static = of_layer(static_contexts(encoder, prompts, subjects), 1)
    asked = len(encoder.calls)
    assert layer_context(encoder, prompts, static, subjects, 1, *inputs(1), alpha=0.0) is static
    assert len(encoder.calls) == asked


def test_rows_of_a_batch_do_not_touch_each_other():
    encoder, subjects = TextEncoder(), [Learned(embedder(0), Z), Learned(embedder(1), Y, 0.7)]
    rows = ([5], [5, Z, 6, Y], [Y], [5, Z])
    features, time = inputs(4, width=32)
    prompts = encoder.prompts(*rows, tokens=(Z, Y))
    together = layer_context(
        encoder, prompts, of_layer(static_contexts(encoder, prompts, subjects), 2), subjects, 2, features, time
    )
    for index, row in enumerate(rows):
        alone = encoder.prompts(row, tokens=(Z, Y))
        static = of_layer(static_contexts(encoder, alone, subjects), 2)
        own = layer_context(encoder, alone, static, subjects, 2, features[index : index + 1], time[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], own, rtol=1e-5, atol=1e-6)


def test_every_picture_gets_a_context_of_its_own():
    encoder, subjects = TextEncoder(), [Learned(embedder(), Z)]
    prompts = encoder.prompts([5, Z], [5, Z])
    made = layer_context(encoder, prompts, of_layer(static_contexts(encoder, prompts, subjects), 0), subjects, 0, *inputs(2))
    assert not torch.equal(made[0], made[1])
    assert torch.equal(made[:, 0], made[:, 0].flip(0))  # causal: what stands before the placeholder does not change


def test_prompts_are_laid_out_anew_for_the_rows_of_a_unet_batch():
    encoder, subjects = TextEncoder(), [Learned(embedder(), Z)]
    prompts = encoder.prompts([5], [5, Z], [Z])
    order = torch.tensor([2, 0, 2, 1, 0])
    batch = prompts.rows(order)
    assert batch.marked.tolist() == [0, 2, 3]
    static = static_contexts(encoder, prompts, subjects)
    torch.testing.assert_close(static_contexts(encoder, batch, subjects), static[order], rtol=1e-5, atol=1e-6)


def test_strength_multiplies_both_vectors():
    encoder = TextEncoder()
    prompts = encoder.prompts([5, Z])
    seen = []

    def encode(rows):
        seen.append(rows)
        return rows

    for strength in (1.0, 0.5):
        subjects = [Learned(embedder(), Z, strength)]
        static = static_contexts(encode, prompts, subjects)
        layer_context(encode, prompts, of_layer(static, 0), subjects, 0, *inputs(1))
    full, half = seen[:2], seen[2:]
    for one, other in zip(full, half, strict=True):
        torch.testing.assert_close(one[:, 1] * 0.5, other[:, 1])
        assert torch.equal(one[:, 0], other[:, 0])


def test_long_prompts_are_encoded_chunk_by_chunk():
    encoder, subjects = TextEncoder(), [Learned(embedder(), Z)]
    prompts = encoder.prompts([5] * 9 + [Z] + [6] * 4)
    static = static_contexts(encoder, prompts, subjects)
    assert static.shape == (1, LAYERS, 2 * T, WIDTH)
    assert encoder.calls == [2 * LAYERS]
    first = TextEncoder()(prompts.embeds[:, :T])
    assert torch.equal(static[:, 0, :T], first)
    made = layer_context(encoder, prompts, of_layer(static, 0), subjects, 0, *inputs(1))
    torch.testing.assert_close(made[:, :T], first)
    assert not torch.equal(made[:, T:], static[:, 0, T:])


def test_weights_lead_away_from_the_empty_prompt_in_both_contexts():
    encoder, subjects = TextEncoder(), [Learned(embedder(), Z)]
    plain = encoder.prompts([5], [5, Z])
    neutral = encoder(encoder.table[torch.ones(1, T, dtype=torch.long)])[0]
    weights = torch.ones(2, T)
    weights[:, 1] = 1.3
    features, time = inputs(2, width=32)
    weighted = replace(plain, weights=weights, neutral=neutral)
    expected, found = (
        layer_context(encoder, one, of_layer(static_contexts(encoder, one, subjects), 1), subjects, 1, features, time)
        for one in (plain, weighted)
    )
    torch.testing.assert_close(found[:, 1], neutral[1] + (expected[:, 1] - neutral[1]) * 1.3)
    others = [place for place in range(T) if place != 1]
    assert torch.equal(found[:, others], expected[:, others])


def test_gradients_reach_both_embedders_and_not_the_table():
    encoder, made = TextEncoder(), embedder()
    prompts = encoder.prompts([5], [5, Z])
    static = static_contexts(encoder, prompts, [Learned(made, Z)])
    layer_context(encoder, prompts, of_layer(static, 0), [Learned(made, Z)], 0, *inputs(2)).square().sum().backward()
    assert made.static.pre_vecs.grad.any()
    assert made.lasr.layer_maps[0].weight.grad.any()
    assert made.lasr.layer_maps[1].weight.grad is None


def test_a_drawn_alpha_may_be_a_tensor():
    static, adaptive = torch.zeros(2, T, WIDTH), torch.ones(2, T, WIDTH)
    torch.testing.assert_close(mixed(static, adaptive, torch.arange(2), torch.tensor(0.3)), torch.full_like(static, 0.3))


def test_a_prompt_without_one_of_its_placeholders_is_refused_by_name():
    ids = torch.tensor([[1, Z, 2]])
    check_named(ids, [Z], ["z"], "a z")
    with pytest.raises(ValueError, match=r'The prompt "a z" does not have the placeholder "y"'):
        check_named(ids, [Z, Y], ["z", "y"], "a z")


def test_prompts_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="multiple of 77"):
        prompts_of(torch.zeros(1, 76, dtype=torch.long), torch.zeros(1, 76, 8), [Z])
    with pytest.raises(ValueError, match="do not belong together"):
        prompts_of(torch.zeros(1, 77, dtype=torch.long), torch.zeros(1, 154, 8), [Z])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), "half", None])
def test_alpha_is_a_share(alpha):
    with pytest.raises(ValueError, match="alpha"):
        checked_alpha(alpha)


def test_placeholders_that_may_be_meant_as_words_are_told():
    pieces = ["<|startoftext|>", "ja", "z</w>", "and</w>", "a</w>", "z</w>", "<|endoftext|>"]
    ids = [9, 1, 345, 2, 3, 345, 8]
    inside, often = doubts(pieces, ids, {"z": 345})
    assert 'is the end of the word "jaz"' in inside
    assert "stands 2 times" in often
    assert doubts(pieces[3:], ids[3:], {"z": 345}) == []
    (word,) = doubts(["<|startoftext|>", "chair</w>"], [9, 4], {"chair": 4})
    assert '"chair" looks like an ordinary word' in word
