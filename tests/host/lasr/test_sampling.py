"""Learned subjects in a real ComfyUI sampler: every way of putting prompts together, and what it costs."""

import pytest
import torch
from support import comfy_host, learned, tiny
from support.golden import relative_error


def test_a_subject_changes_the_picture_and_leaves_no_bit_behind(model, patched, clip, cat, positive, negative):
    before = learned.sampled(model, negative, negative)
    drawn = learned.sampled(patched, positive, negative)
    assert relative_error(drawn, learned.sampled(model, positive, negative)) > 1e-2
    assert relative_error(drawn, learned.sampled(learned.apply(model, clip, (cat,), 0.0), positive, negative)) > 1e-2
    assert torch.equal(learned.sampled(patched, positive, negative), drawn)
    assert torch.equal(learned.sampled(model, negative, negative), before)
    assert torch.equal(learned.sampled(patched, negative, negative), before)
    assert not model.wrappers
    assert not model.attachments
    assert not model.additional_models
    assert not model.model_options["transformer_options"].get("patches")


def test_a_pair_is_one_unet_call_and_one_text_batch_a_layer(model, patched, clip, positive, negative):
    with learned.UNetCalls(model, clip) as calls:
        learned.sampled(patched, positive, negative, batch=3)
    assert calls.rows == [6, 6]
    assert calls.texts == [3] * 16 * 2


def test_a_negative_with_the_placeholder_shares_the_batch(model, patched, clip, cat, positive, apart):
    against = learned.prompt(clip, (cat,), "an ugly z")
    with learned.UNetCalls(model, clip) as calls:
        together = learned.sampled(patched, positive, against)
    assert calls.rows == [2, 2]
    assert calls.texts == [2] * 16 * 2
    apart(model)
    with learned.UNetCalls(model, clip) as calls:
        alone = learned.sampled(patched, positive, against)
    assert calls.rows == [1] * 4
    assert relative_error(together, alone) <= learned.EXACT


def test_two_positives_areas_masks_and_timesteps_are_what_they_are_alone(model, patched, clip, cat, positive, negative, apart):
    second = learned.prompt(clip, (cat,), learned.LONG)
    second = learned.host_node("ConditioningSetArea", second, 64, 128, 64, 0, 0.8)
    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    third = learned.host_node("ConditioningSetMask", learned.plain(clip, "a chair"), mask, "default", 1.0)
    late = learned.host_node("ConditioningSetTimestepRange", learned.prompt(clip, (cat,), "a z"), 0.0, 0.5)
    conds = learned.host_node("ConditioningCombine", learned.host_node("ConditioningCombine", positive, second), third)
    conds = learned.host_node("ConditioningCombine", conds, late)
    together = learned.sampled(patched, conds, negative)
    apart(model)
    assert relative_error(together, learned.sampled(patched, conds, negative)) <= learned.EXACT
    assert relative_error(together, learned.sampled(patched, positive, negative)) > 1e-3


def test_every_picture_of_a_batch_has_contexts_of_its_own(patched, positive, negative):
    import comfy.sample

    noise = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(4))

    def draw(part):
        with torch.inference_mode():
            return comfy.sample.sample(
                patched, part, 2, 5.0, "euler", "normal", positive, negative, torch.zeros_like(part), seed=3, disable_pbar=True
            )

    assert relative_error(draw(noise), torch.cat([draw(part) for part in noise.split(1)])) <= learned.EXACT


def test_two_subjects_in_one_prompt_and_each_in_its_own(model, clip, cat, hat, negative, apart):
    both = learned.apply(model, clip, (cat, hat))
    prompts = [
        learned.prompt(clip, (cat, hat), "a z with a y"), learned.prompt(clip, (hat,), "a y"), learned.prompt(clip, (cat,), "a z")
    ]  # fmt: skip
    conds = [entry for prompt in prompts for entry in prompt]
    together = learned.sampled(both, conds, negative)
    one_each = learned.apply(learned.apply(model, clip, (cat,)), clip, (hat,))
    assert (
        relative_error(learned.sampled(one_each, conds[1:], negative), learned.sampled(both, conds[1:], negative))
        <= learned.EXACT
    )
    alone = learned.sampled(learned.apply(model, clip, (cat,)), prompts[2], negative)
    assert relative_error(learned.sampled(both, prompts[2], negative), alone) <= learned.EXACT
    apart(model)
    assert relative_error(together, learned.sampled(both, conds, negative)) <= learned.EXACT


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
    with_windows = learned.sampled(windowed, positive, negative, batch=4)
    assert relative_error(with_windows, learned.sampled(patched, positive, negative, batch=4)) <= learned.EXACT


def test_alpha_zero_never_runs_clip_while_sampling_and_does_not_load_it(model, clip, cat, positive, negative):
    still = learned.apply(model, clip, (cat,), 0.0)
    assert not still.additional_models
    assert learned.apply(model, clip, (cat,)).get_nested_additional_models()[0].model is clip.cond_stage_model
    with learned.UNetCalls(model, clip) as calls:
        learned.sampled(still, positive, negative)
    assert calls.texts == []
    assert calls.rows == [2, 2]


def test_the_adaptive_part_acts_in_its_layers_and_steps_only(model, clip, cat, positive, negative):
    schedule = comfy_host.part("ssr_core.schedule")
    layout = comfy_host.part("ssr_core.layout").UNetLayout(**tiny.LAYOUT)
    some = learned.apply(
        model, clip, (cat,), layers=schedule.layer_strengths(layout, "middle only"), steps=schedule.StepSchedule(0.0, 0.5)
    )
    with learned.UNetCalls(model, clip) as calls:
        drawn = learned.sampled(some, positive, negative, steps=4)
    assert calls.texts == [1] * 2
    assert relative_error(drawn, learned.sampled(learned.apply(model, clip, (cat,), 0.0), positive, negative, steps=4)) > 1e-5


def test_adaptive_contexts_may_serve_several_steps(model, clip, cat, patched, positive, negative, apart):
    against = learned.prompt(clip, (cat,), "an ugly z")
    kept = learned.apply(model, clip, (cat,), reuse=2)
    with learned.UNetCalls(model, clip) as calls:
        drawn = learned.sampled(kept, positive, against, steps=4)
    assert calls.texts == [2] * 16 * 2
    exact = learned.sampled(patched, positive, against, steps=4)
    assert 0 < relative_error(drawn, exact) < 1
    apart(model)
    assert relative_error(learned.sampled(kept, positive, against, steps=4), drawn) <= learned.EXACT


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
    assert relative_error(repeated, drawn.repeat(3, 1, 1, 1)) <= learned.EXACT


def test_interrupt_leaves_nothing_behind(model, patched, positive, negative):
    import comfy.model_management as management

    expected, before = learned.sampled(patched, positive, negative), learned.sampled(model, negative, negative)

    def interrupt(*_):
        raise management.InterruptProcessingException()

    with pytest.raises(management.InterruptProcessingException):
        learned.sampled(patched, positive, negative, callback=interrupt)
    assert torch.equal(learned.sampled(patched, positive, negative), expected)
    assert torch.equal(learned.sampled(model, negative, negative), before)


def test_inspect_says_what_is_learned(patched):
    text = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe(patched)
    assert 'learned: "z" (strength 1)\n   alpha 0.5, adaptive in 16 of 16 layers, steps 0 to 1' in text
    assert "ssr_encoder_contexts" not in text
