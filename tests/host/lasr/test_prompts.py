"""Prompts with learned subjects in ComfyUI: what they say, and what is told of those that do not do."""

import dataclasses
import logging

import pytest
import torch
from safetensors.torch import save_file
from support import comfy_host, learned
from support.golden import relative_error


def test_a_subject_of_strength_zero_is_an_ordinary_word(model, clip, cat, negative):
    nobody = (cat.scaled(0.0),)
    assert learned.apply(model, clip, nobody) is model
    prompt = learned.prompt(clip, nobody, "a photo of a z")
    assert torch.equal(
        learned.sampled(model, prompt, negative), learned.sampled(model, learned.plain(clip, "a photo of a z"), negative)
    )


WEIGHTED = "a (photo:0.6) of a (z:1.4) on a [beach]"


@pytest.mark.parametrize(
    "text", ["a photo of a z", WEIGHTED, learned.LONG, f"{learned.LONG} (beach:1.3)"], ids=["plain", "weights", "long", "both"]
)
@pytest.mark.parametrize("kind", ["as loaded", "CLIP skip", "LoRA"])
def test_vectors_that_are_the_words_own_draw_the_ordinary_prompt(model, clip, negative, text, kind):
    encoder = clip.clone()
    if kind == "CLIP skip":
        encoder.clip_layer(-2)
    if kind == "LoRA":
        name = "clip_l.transformer.text_model.encoder.layers.1.mlp.fc1.weight"
        encoder.add_patches({name: (torch.full((64, 768), 0.05),)}, 1.0)
    subject = learned.itself(encoder)
    prompt = learned.prompt(encoder, (subject,), text)
    ordinary = learned.plain(encoder, text)
    torch.testing.assert_close(prompt[0][0], ordinary[0][0], rtol=1e-4, atol=1e-5)
    assert prompt[0][1]["pooled_output"].equal(ordinary[0][1]["pooled_output"])
    with learned.UNetCalls(model, encoder) as calls:
        drawn = learned.sampled(learned.apply(model, encoder, (subject,)), prompt, negative)
    assert relative_error(drawn, learned.sampled(model, ordinary, negative)) <= learned.EXACT * 10
    assert calls.rows == [2, 2]
    encoder.patcher.unpatch_model()


@pytest.fixture
def embeddings(tmp_path, clip, monkeypatch):
    """Textual inversions as people have them: of one token, as `ssr-encoder learn` writes it, and of three."""
    generator = torch.Generator().manual_seed(3)
    inversion = comfy_host.part("ssr_core.methods.lasr.inversion")
    inversion.save(torch.randn(768, generator=generator), tmp_path / "look.safetensors")
    save_file({"emb_params": torch.randn(3, 768, generator=generator)}, tmp_path / "three.safetensors")
    monkeypatch.setattr(clip.tokenizer.clip_l, "embedding_directory", str(tmp_path))


WITH_EMBEDDINGS = (
    "a embedding:look z",
    "a (embedding:look:1.3) of a (z:0.7) on a [beach]",
    "embedding:three, a (z:1.2), (embedding:three:0.8) and a embedding:look",
    f"embedding:three {learned.LONG} (embedding:look:1.4)",
)


@pytest.mark.parametrize("text", WITH_EMBEDDINGS)
def test_a_textual_inversion_beside_a_placeholder_is_encoded_in_every_layer_as_the_host_does(clip, cat, hat, embeddings, text):
    """The host's own encoding, and its weights, of the prompt in which each layer's vector is one more embedding."""
    text += " with a (y:1.1)"
    tokens = clip.tokenize(text)
    assert any(isinstance(token, torch.Tensor) for chunk in tokens["l"] for token, *_ in chunk)
    vectors = {one.token: one.embedder().static().detach() * one.strength for one in (cat, hat.scaled(0.8))}  # [L, D] each
    riding = learned.riding(learned.prompt(clip, (cat, hat.scaled(0.8)), text)).static  # [L, T, D]
    ordinary = learned.plain(clip, text)[0][0]
    for layer, found in enumerate(riding):
        replaced = [
            [(vectors[token][layer] if isinstance(token, int) and token in vectors else token, *rest) for token, *rest in chunk]
            for chunk in tokens["l"]
        ]
        with torch.inference_mode():
            expected = clip.encode_from_tokens({"l": replaced})[0]
        assert relative_error(found, expected) <= learned.EXACT
        assert relative_error(found, ordinary[0]) > 1e-2


@pytest.mark.parametrize("text", WITH_EMBEDDINGS)
def test_a_textual_inversion_beside_a_placeholder_draws_the_ordinary_prompt(model, clip, negative, embeddings, text):
    """Adaptive contexts too: the subject's vectors are the placeholder's own."""
    subject = learned.itself(clip)
    prompt, patched = learned.prompt(clip, (subject,), text), learned.apply(model, clip, (subject,), 1.0)
    with learned.UNetCalls(model, clip) as calls:
        drawn = learned.sampled(patched, prompt, negative)
    assert len(calls.texts) == 16 * 2
    expected = learned.sampled(model, learned.plain(clip, text), negative)
    assert relative_error(drawn, expected) <= learned.EXACT * 10
    without = learned.plain(clip, text.replace("embedding:look", "").replace("embedding:three", ""))
    assert relative_error(drawn, learned.sampled(model, without, negative)) > 1e-3


def test_a_textual_inversion_of_another_width_is_refused_beside_a_placeholder(clip, cat, embeddings, tmp_path):
    save_file({"emb_params": torch.zeros(1, 1024)}, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"names an embedding of width 1024; the learned subject needs 768"):
        learned.prompt(clip, (cat,), "a z in embedding:wide")


def said(clip, cat, node, *others):
    prompt = learned.prompt(clip, (cat,), "a photo of a z")
    return learned.host_node(node, *(prompt if other is None else other for other in others))


def test_nodes_that_change_a_prompt_are_told_by_name(patched, clip, cat, negative):
    ordinary = learned.plain(clip, "a chair")
    for conds, expected in (
        (
            said(clip, cat, "ConditioningConcat", None, ordinary),
            r'"a photo of a z" of Prompt with Subject.*\(Conditioning Concat\)',
        ),
        (
            said(clip, cat, "ConditioningConcat", ordinary, None),
            r"appended to another \(Conditioning Concat\).*left its contexts",
        ),
        (said(clip, cat, "ConditioningAverage", None, ordinary, 0.5), r"changed by another node \(Conditioning Average"),
        (said(clip, cat, "ConditioningZeroOut", None), r"zeroed \(Conditioning Zero Out\)"),
    ):
        with pytest.raises(ValueError, match=expected):
            learned.sampled(patched, conds, negative)


def test_a_prompt_that_lost_its_subject_is_told(patched, model, clip, cat, positive, negative, caplog):
    (tensor, options), *_ = positive
    bare = [[tensor, {"pooled_output": options["pooled_output"]}]]
    with pytest.raises(ValueError, match="passed on by another node, which left its contexts for every layer behind"):
        learned.sampled(patched, bare, negative)
    learned.sampled(patched, said(clip, cat, "ConditioningAverage", learned.plain(clip, "a chair"), None, 0.5), negative)
    assert "no prompt of this sampling brings a learned subject" in caplog.text
    caplog.clear()
    learned.sampled(model, positive, negative)
    learned.sampled(model, positive, negative)
    assert caplog.text.count("this MODEL has no Apply Subject (LASR)") == 1


def test_what_does_not_belong_together_is_refused_by_name(model, clip, cat, hat, patched, positive, negative):
    def refused(patcher, conds, expected):
        with pytest.raises(ValueError, match=expected):
            learned.sampled(patcher, conds, negative)

    refused(learned.apply(model, clip, (hat,)), positive, r'draws the subject "z", which Apply Subject \(LASR\) does not have')
    refused(learned.apply(model, clip, (cat.scaled(0.5),)), positive, "another subject or strength")
    refused(learned.apply(model, clip, (learned.subject(7),)), positive, "another subject or strength")
    skipping = clip.clone()
    skipping.clip_layer(-2)
    refused(learned.apply(model, skipping, (cat,)), positive, r"reads layer -2 instead of last \(CLIP skip\)")
    changed = clip.clone()
    changed.add_patches({"clip_l.transformer.text_model.final_layer_norm.weight": (torch.ones(768),)}, 0.1)
    refused(learned.apply(model, changed, (cat,)), positive, "has other LoRAs or patches")
    last = clip.clone()
    last.clip_layer(-1)
    learned.sampled(learned.apply(model, last, (cat,)), positive, negative)
    same = dataclasses.replace(cat)
    learned.sampled(learned.apply(model, clip, (same,)), positive, negative)
    with pytest.raises(ValueError, match=r'already has Apply Subject .* placeholder "z"'):
        learned.apply(patched, clip, (cat,))


def test_prompts_that_do_not_name_the_subject_are_refused_and_doubtful_ones_reported(clip, cat, hat, caplog):
    with pytest.raises(ValueError, match='The prompt "a photo" does not have the placeholder "z"'):
        learned.prompt(clip, (cat,), "a photo")
    with pytest.raises(ValueError, match='does not have the placeholder "y"'):
        learned.prompt(clip, (cat, hat), "a photo of a z")
    with pytest.raises(ValueError, match="stands for token 999, which is another word in this CLIP"):
        learned.prompt(clip, (dataclasses.replace(cat, token=999),), "a photo of a z")
    hooked = clip.clone()
    hooked.patcher.forced_hooks = object()
    with pytest.raises(ValueError, match=r"LoRAs that hooks exchange.*Set CLIP Hooks"):
        learned.prompt(hooked, (cat,), "a photo of a z")
    with caplog.at_level(logging.WARNING):
        learned.prompt(clip, (cat,), "a photo of a z")
        assert not caplog.text
        learned.prompt(clip, (cat,), "jay z with a z")
    assert 'the placeholder "z" stands 2 times' in caplog.text
    caplog.clear()
    learned.prompt(clip, (dataclasses.replace(cat, placeholder="chair", token=4269),), "a photo of a chair")
    assert 'the placeholder "chair" looks like an ordinary word' in caplog.text
