"""Learned subjects in a real ComfyUI sampler: every way of putting prompts together, beside everything else, and what it costs."""

import dataclasses
import logging

import pytest
import torch
from support import comfy_host, learned, tiny
from support.golden import relative_error

EXACT = 2e-5
"""Relative: batches of another size round otherwise."""


@pytest.fixture(scope="module")
def cat():
    return learned.subject(1)


@pytest.fixture(scope="module")
def hat():
    return learned.subject(2, "y", 344)


@pytest.fixture
def positive(clip, cat):
    return learned.prompt(clip, (cat,), "a photo of a z on a beach")


@pytest.fixture
def negative(clip):
    return learned.plain(clip, "blurred")


@pytest.fixture
def patched(model, clip, cat):
    return learned.apply(model, clip, (cat,))


def sampled(model, positive, negative, **options):
    return tiny.sample(model, positive=positive, negative=negative, **options)


def host_node(name, *inputs):
    import nodes

    node = nodes.NODE_CLASS_MAPPINGS[name]
    with torch.inference_mode():
        return getattr(node(), node.FUNCTION)(*inputs)[0]


@pytest.fixture
def apart(monkeypatch):
    """Makes the host run every cond as a call of its own, as for want of memory."""

    def switch(model):
        monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: 1e30)

    return switch


def test_a_subject_changes_the_picture_and_leaves_no_bit_behind(model, patched, clip, cat, positive, negative):
    before = sampled(model, negative, negative)
    drawn = sampled(patched, positive, negative)
    assert relative_error(drawn, sampled(model, positive, negative)) > 1e-2
    assert relative_error(drawn, sampled(learned.apply(model, clip, (cat,), 0.0), positive, negative)) > 1e-2
    assert torch.equal(sampled(patched, positive, negative), drawn)
    assert torch.equal(sampled(model, negative, negative), before)
    assert torch.equal(sampled(patched, negative, negative), before)
    assert not model.wrappers
    assert not model.attachments
    assert not model.additional_models
    assert not model.model_options["transformer_options"].get("patches")


def test_a_subject_of_strength_zero_is_an_ordinary_word(model, clip, cat, negative):
    nobody = (cat.scaled(0.0),)
    assert learned.apply(model, clip, nobody) is model
    prompt = learned.prompt(clip, nobody, "a photo of a z")
    assert torch.equal(sampled(model, prompt, negative), sampled(model, learned.plain(clip, "a photo of a z"), negative))


LONG = "a photo of " + "a very " * 40 + "small z, " + "and a chair, " * 10 + "z"
WEIGHTED = "a (photo:0.6) of a (z:1.4) on a [beach]"


@pytest.mark.parametrize(
    "text", ["a photo of a z", WEIGHTED, LONG, f"{LONG} (beach:1.3)"], ids=["plain", "weights", "long", "both"]
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
        drawn = sampled(learned.apply(model, encoder, (subject,)), prompt, negative)
    assert relative_error(drawn, sampled(model, ordinary, negative)) <= EXACT * 10
    assert calls.rows == [2, 2]
    encoder.patcher.unpatch_model()


def test_a_pair_is_one_unet_call_and_one_text_batch_a_layer(model, patched, clip, positive, negative):
    with learned.UNetCalls(model, clip) as calls:
        sampled(patched, positive, negative, batch=3)
    assert calls.rows == [6, 6]
    assert calls.texts == [3] * 16 * 2


def test_a_negative_with_the_placeholder_shares_the_batch(model, patched, clip, cat, positive, apart):
    against = learned.prompt(clip, (cat,), "an ugly z")
    with learned.UNetCalls(model, clip) as calls:
        together = sampled(patched, positive, against)
    assert calls.rows == [2, 2]
    assert calls.texts == [2] * 16 * 2
    apart(model)
    with learned.UNetCalls(model, clip) as calls:
        alone = sampled(patched, positive, against)
    assert calls.rows == [1] * 4
    assert relative_error(together, alone) <= EXACT


def test_two_positives_areas_masks_and_timesteps_are_what_they_are_alone(model, patched, clip, cat, positive, negative, apart):
    second = learned.prompt(clip, (cat,), LONG)
    second = host_node("ConditioningSetArea", second, 64, 128, 64, 0, 0.8)
    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    third = host_node("ConditioningSetMask", learned.plain(clip, "a chair"), mask, "default", 1.0)
    late = host_node("ConditioningSetTimestepRange", learned.prompt(clip, (cat,), "a z"), 0.0, 0.5)
    conds = host_node("ConditioningCombine", host_node("ConditioningCombine", positive, second), third)
    conds = host_node("ConditioningCombine", conds, late)
    together = sampled(patched, conds, negative)
    apart(model)
    assert relative_error(together, sampled(patched, conds, negative)) <= EXACT
    assert relative_error(together, sampled(patched, positive, negative)) > 1e-3


def test_every_picture_of_a_batch_has_contexts_of_its_own(patched, positive, negative):
    import comfy.sample

    noise = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(4))

    def draw(part):
        with torch.inference_mode():
            return comfy.sample.sample(
                patched, part, 2, 5.0, "euler", "normal", positive, negative, torch.zeros_like(part), seed=3, disable_pbar=True
            )

    assert relative_error(draw(noise), torch.cat([draw(part) for part in noise.split(1)])) <= EXACT


def test_two_subjects_in_one_prompt_and_each_in_its_own(model, clip, cat, hat, negative, apart):
    both = learned.apply(model, clip, (cat, hat))
    prompts = [
        learned.prompt(clip, (cat, hat), "a z with a y"), learned.prompt(clip, (hat,), "a y"), learned.prompt(clip, (cat,), "a z")
    ]  # fmt: skip
    conds = [entry for prompt in prompts for entry in prompt]
    together = sampled(both, conds, negative)
    one_each = learned.apply(learned.apply(model, clip, (cat,)), clip, (hat,))
    assert relative_error(sampled(one_each, conds[1:], negative), sampled(both, conds[1:], negative)) <= EXACT
    alone = sampled(learned.apply(model, clip, (cat,)), prompts[2], negative)
    assert relative_error(sampled(both, prompts[2], negative), alone) <= EXACT
    apart(model)
    assert relative_error(together, sampled(both, conds, negative)) <= EXACT


def test_context_windows_draw_each_frame_as_without(patched, model, positive, negative):
    import comfy.context_windows as windows
    import comfyui_version

    if comfyui_version.__version__ == "0.3.64":
        pytest.skip("ComfyUI 0.3.64 fails by itself on context windows over an image batch")
    handler = windows.IndexListContextHandler(
        windows.get_matching_context_schedule("standard_static"), windows.get_matching_fuse_method("pyramid"), 2, 0, 1, False, 0
    )
    windowed = patched.clone()
    windowed.model_options["context_handler"] = handler
    windows.create_prepare_sampling_wrapper(windowed)
    with_windows = sampled(windowed, positive, negative, batch=4)
    assert relative_error(with_windows, sampled(patched, positive, negative, batch=4)) <= EXACT


def test_beside_the_ssr_encoder_in_either_order(model, encoder, subject, clip, cat, positive, negative):
    first = learned.apply(tiny.apply(model, encoder, subject), clip, (cat,))
    second = tiny.apply(learned.apply(model, clip, (cat,)), encoder, subject)
    drawn = sampled(first, positive, negative)
    assert torch.equal(drawn, sampled(second, positive, negative))
    assert relative_error(drawn, sampled(learned.apply(model, clip, (cat,)), positive, negative)) > 1e-3


def test_other_packs_patches_see_the_layers_context_and_change_what_enters_a_block(model, clip, negative):
    """Theirs on what enters a block come before ours, theirs on the text after."""
    itself = (learned.itself(clip),)
    text = "a photo of a z"

    def foreign(patcher):
        patcher = patcher.clone()
        patcher.set_model_output_block_patch(lambda h, hsp, options: (h * 1.1, hsp))
        patcher.set_model_attn2_patch(lambda n, context, value, options: (n, context * 0.9, value))
        patcher.set_model_attn2_replace(
            lambda q, k, v, options: torch.nn.functional.softmax(q, -1) + v.mean(1, keepdim=True), "output", 5
        )
        return patcher

    expected = sampled(foreign(model), learned.plain(clip, text), negative)
    prompt = learned.prompt(clip, itself, text)
    for patcher in (foreign(learned.apply(model, clip, itself)), learned.apply(foreign(model), clip, itself)):
        assert relative_error(sampled(patcher, prompt, negative), expected) <= EXACT * 10


def test_alpha_zero_never_runs_clip_while_sampling_and_does_not_load_it(model, clip, cat, positive, negative):
    still = learned.apply(model, clip, (cat,), 0.0)
    assert not still.additional_models
    assert learned.apply(model, clip, (cat,)).get_nested_additional_models()[0].model is clip.cond_stage_model
    with learned.UNetCalls(model, clip) as calls:
        sampled(still, positive, negative)
    assert calls.texts == []
    assert calls.rows == [2, 2]


def test_the_adaptive_part_acts_in_its_layers_and_steps_only(model, clip, cat, positive, negative):
    schedule = comfy_host.part("ssr_core.schedule")
    layout = comfy_host.part("ssr_core.layout").UNetLayout(**tiny.LAYOUT)
    some = learned.apply(
        model, clip, (cat,), layers=schedule.layer_strengths(layout, "middle only"), steps=schedule.StepSchedule(0.0, 0.5)
    )
    with learned.UNetCalls(model, clip) as calls:
        drawn = sampled(some, positive, negative, steps=4)
    assert calls.texts == [1] * 2
    assert relative_error(drawn, sampled(learned.apply(model, clip, (cat,), 0.0), positive, negative, steps=4)) > 1e-5


def test_adaptive_contexts_may_serve_several_steps(model, clip, cat, patched, positive, negative, apart):
    against = learned.prompt(clip, (cat,), "an ugly z")
    kept = learned.apply(model, clip, (cat,), reuse=2)
    with learned.UNetCalls(model, clip) as calls:
        drawn = sampled(kept, positive, against, steps=4)
    assert calls.texts == [2] * 16 * 2
    exact = sampled(patched, positive, against, steps=4)
    assert 0 < relative_error(drawn, exact) < 1
    apart(model)
    assert relative_error(sampled(kept, positive, against, steps=4), drawn) <= EXACT


def test_a_sampler_without_a_guider_still_sees_the_subject(patched, positive, clip):
    """As nodes do that call the model themselves."""
    riding = positive[0][1]["model_conds"]["ssr_encoder_lasr"].cond
    base = patched.model
    options = {"wrappers": patched.wrappers, "cond_or_uncond": [0]}
    latent, sigma = torch.randn(1, 4, 16, 16), torch.tensor([5.0])
    with torch.inference_mode():
        plain = base.apply_model(latent, sigma, c_crossattn=positive[0][0])
        drawn = base.apply_model(
            latent, sigma, c_crossattn=positive[0][0], transformer_options=options, ssr_encoder_lasr=riding
        )
        repeated = base.apply_model(
            latent.repeat(3, 1, 1, 1), sigma.repeat(3), c_crossattn=positive[0][0].repeat(3, 1, 1), transformer_options=options,
            ssr_encoder_lasr=riding,
        )  # fmt: skip
    assert relative_error(drawn, plain) > 1e-3
    assert relative_error(repeated, drawn.repeat(3, 1, 1, 1)) <= EXACT


def said(clip, cat, node, *others):
    prompt = learned.prompt(clip, (cat,), "a photo of a z")
    return host_node(node, *(prompt if other is None else other for other in others))


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
            sampled(patched, conds, negative)


def test_a_prompt_that_lost_its_subject_is_told(patched, model, clip, cat, positive, negative, caplog):
    (tensor, options), *_ = positive
    bare = [[tensor, {"pooled_output": options["pooled_output"]}]]
    with pytest.raises(ValueError, match="passed on by another node, which left its contexts for every layer behind"):
        sampled(patched, bare, negative)
    sampled(patched, said(clip, cat, "ConditioningAverage", learned.plain(clip, "a chair"), None, 0.5), negative)
    assert "no prompt of this sampling brings a learned subject" in caplog.text
    caplog.clear()
    sampled(model, positive, negative)
    sampled(model, positive, negative)
    assert caplog.text.count("this MODEL has no Apply Subject (LASR)") == 1


def test_what_does_not_belong_together_is_refused_by_name(model, clip, cat, hat, patched, positive, negative):
    def refused(patcher, conds, expected):
        with pytest.raises(ValueError, match=expected):
            sampled(patcher, conds, negative)

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
    sampled(learned.apply(model, last, (cat,)), positive, negative)
    same = dataclasses.replace(cat)
    sampled(learned.apply(model, clip, (same,)), positive, negative)
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


def test_a_unet_that_is_run_in_another_way_is_reported(patched, positive, negative, model, clip, cat, monkeypatch, caplog):
    """Where what enters a block is not told, the adaptive part is left out."""
    context = comfy_host.part("ssr_core.hosts.comfyui.context")
    monkeypatch.setattr(context, "note_down", lambda features, options: features)
    drawn = sampled(patched, positive, negative)
    assert "is not known, since another node runs the UNet in its own way" in caplog.text
    assert torch.isfinite(drawn).all()


def test_another_pack_may_enlarge_the_batch_in_the_middle_of_a_pass(patched, positive, negative):
    """As packs with regional prompts do: theirs comes after ours, so it repeats the layer's context."""

    def double(query, context, value, options):
        return torch.cat([query, query]), torch.cat([context, context]), torch.cat([value, value])

    enlarged = patched.clone()
    enlarged.set_model_attn2_patch(double)
    enlarged.set_model_attn2_output_patch(lambda out, options: out.chunk(2)[0])
    assert relative_error(sampled(enlarged, positive, negative), sampled(patched, positive, negative)) <= EXACT


class ControlNet:
    """What the host asks of one, with residuals that depend on the text it sees."""

    previous_controlnet = extra_hooks = None
    multigpu_clones: dict = {}  # noqa: RUF012

    def __init__(self):
        self.seen = []

    def get_control(self, latent, timestep, cond, count, options):
        self.seen.append(cond["c_crossattn"])
        amount = cond["c_crossattn"].mean(dim=(1, 2)).view(-1, 1, 1, 1)
        return {"middle": [(5 + 50 * amount) * torch.ones(len(latent), 128, 2, 2)]}

    def get_extra_hooks(self):
        return []

    def get_models(self):
        return []

    def inference_memory_requirements(self, dtype):
        return 0

    def pre_run(self, model, percent_to_timestep):
        pass

    def cleanup(self):
        pass


def test_a_controlnet_sees_an_ordinary_prompt_and_steers_as_without(model, clip, negative):
    net, itself = ControlNet(), (learned.itself(clip),)

    def steered(conds):
        return [[tensor, {**options, "control": net}] for tensor, options in conds]

    text = "a photo of a z"
    expected = sampled(model, steered(learned.plain(clip, text)), steered(negative))
    drawn = sampled(learned.apply(model, clip, itself), steered(learned.prompt(clip, itself, text)), steered(negative))
    assert relative_error(drawn, expected) <= EXACT * 10
    assert relative_error(drawn, sampled(model, learned.plain(clip, text), negative)) > 1e-3
    assert {len(seen) for seen in net.seen} == {2}


def test_interrupt_leaves_nothing_behind(model, patched, positive, negative):
    import comfy.model_management as management

    expected, before = sampled(patched, positive, negative), sampled(model, negative, negative)

    def interrupt(*_):
        raise management.InterruptProcessingException()

    with pytest.raises(management.InterruptProcessingException):
        sampled(patched, positive, negative, callback=interrupt)
    assert torch.equal(sampled(patched, positive, negative), expected)
    assert torch.equal(sampled(model, negative, negative), before)


def test_inspect_says_what_is_learned(patched):
    text = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe(patched)
    assert 'learned: "z" (strength 1)\n   alpha 0.5, adaptive in 16 of 16 layers, steps 0 to 1' in text
    assert "ssr_encoder_contexts" not in text
