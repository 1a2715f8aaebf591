"""What a MODEL with ELITE's subjects draws, out of which weights, and beside whom."""

import pytest
import torch
from support import comfy_host, golden, tiny


def weights(patched):
    """The MODEL's text projections as they act, by name."""
    import comfy.lora

    own = patched.model.state_dict()
    return {
        key: comfy.lora.calculate_weight(patches, own[key].clone(), key)
        for key, patches in patched.patches.items()
        if ".attn2.to_" in key
    }


def test_the_subject_changes_the_picture_and_upstream_stays_as_it_was(applied, say, subject, model, plain, drawn):
    assert bool(drawn.isfinite().all())
    word_alone = tiny.sample(applied(subject, 0.0), positive=say(subject))
    assert golden.relative_error(drawn, word_alone) > 1e-3
    assert golden.relative_error(word_alone, tiny.sample(model, positive=say(subject))) > 1e-3
    assert torch.equal(tiny.sample(applied(subject), positive=say(subject)), drawn)
    assert torch.equal(tiny.sample(model), plain)


def test_a_plain_pair_stays_one_call_a_step(applied, say, subject):
    patched, seen = applied(subject).clone(), []

    def spy(apply_model, arguments):
        seen.append(arguments["cond_or_uncond"])
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    patched.set_model_unet_function_wrapper(spy)
    tiny.sample(patched, positive=say(subject), steps=3)
    assert seen == [[1, 0]] * 3


@pytest.mark.parametrize("kind", ["diff", "lora"])
def test_loras_before_and_after_are_added_to_elites_matrices(applied, say, subject, model, elite, kind):
    import comfy.weight_adapter

    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    generator = torch.Generator().manual_seed(5)
    up, down = torch.randn(32, 4, generator=generator), torch.randn(4, 768, generator=generator) / 20
    patch = ("diff", (up @ down,))
    if kind == "lora":
        patch = comfy.weight_adapter.LoRAAdapter(set(), (up, down, 4.0, None, None, None))
    before, after = model.clone(), applied(subject).clone()
    for patched in (before, after):
        assert patched.add_patches({key: patch}, 0.5) == [key]
    before = applied(subject, onto=before)
    found = [weights(patched) for patched in (before, after)]
    assert len(found[0]) == len(found[1]) == 32
    torch.testing.assert_close(found[0][key], elite.text[0][0] + 0.5 * (up @ down))
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name
    assert torch.equal(*(tiny.sample(patched, positive=say(subject)) for patched in (before, after)))


def test_a_merge_before_leaves_nothing_under_elites_matrices(applied, subject, model, elite):
    merged = model.clone()
    other = tiny.model(seed=4)
    merged.add_patches(other.get_key_patches("diffusion_model."), 0.5, 0.5)
    found = weights(applied(subject, onto=merged))
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    middle = next(layer.index for layer in elite.config.layout.layers if layer.block[0] == "middle")
    torch.testing.assert_close(found[key], elite.text[middle][1])


def test_offloaded_weights_are_patched_too(applied, say, subject, drawn):
    patched = applied(subject, onto=tiny.model())
    patched.patch_model(torch.device("cpu"), lowvram_model_memory=1000, load_weights=True)
    try:
        assert golden.relative_error(tiny.sample(patched, positive=say(subject)), drawn) <= 1e-5
    finally:
        patched.unpatch_model()


def test_what_is_saved_has_elites_matrices(applied, subject, elite):
    patched = applied(subject, onto=tiny.model())
    patched.patch_model(torch.device("cpu"))
    try:
        state = patched.model_state_dict()
        name = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
        torch.testing.assert_close(state[name], elite.text[0][1])
    finally:
        patched.unpatch_model()


def test_two_subjects_act_each_by_its_own_word(applied, say, two):
    text, names = "a S beside a T", "S, T"
    both = tiny.sample(applied(two), positive=say(two, text, names))
    turned = tiny.sample(applied(two[::-1]), positive=say(two[::-1], text, "T S"))
    assert golden.relative_error(turned, both) <= 1e-5
    swapped = tiny.sample(applied(two), positive=say(two, text, "T, S"))
    assert golden.relative_error(swapped, both) > 1e-4
    first = tiny.sample(applied((two[0], two[1].scaled(0))), positive=say(two, text, names))
    apart = tiny.sample(applied(two[1:], onto=applied(two[:1])), positive=say(two, text, names))
    assert golden.relative_error(first, both) > 1e-4
    assert golden.relative_error(apart, both) <= 1e-5


def test_batches_of_any_size_and_shape_draw_what_single_pictures_do(applied, say, subject):
    patched = applied(subject)
    batch = tiny.sample(patched, batch=2, size=(12, 20), positive=say(subject))
    assert golden.relative_error(batch[:1], tiny.sample(patched, size=(12, 20), positive=say(subject))) <= 1e-4


def test_without_guidance_the_subject_acts(applied, say, subject):
    with_it, without = (tiny.sample(applied(subject, strength), cfg=1.0, positive=say(subject)) for strength in (0.8, 0.0))
    assert golden.relative_error(with_it, without) > 1e-4


def test_steps_layers_regions_and_frames_act_on_the_local_branch_alone(applied, say, subject, drawn):
    word_alone = tiny.sample(applied(subject, 0.0), positive=say(subject))
    for nothing in (
        {"start": 1.0, "end": 1.0},
        {"layer_strengths": "0"},
        {"frame_strengths": "0"},
    ):
        assert golden.relative_error(tiny.sample(applied(subject, **nothing), positive=say(subject)), word_alone) <= 1e-6
    half = tiny.sample(
        applied(subject, region=torch.cat([torch.ones(1, 16, 8), torch.zeros(1, 16, 8)], -1)), positive=say(subject)
    )
    assert golden.relative_error(half, drawn) > 1e-4
    assert golden.relative_error(half, word_alone) > 1e-4


def test_beside_ssr_and_another_packs_attention_in_any_order(applied, say, subject, model, encoder):
    attention_of = comfy_host.part("ssr_core.hosts.comfyui.layer").attention_of
    dog = (tiny.subject(encoder.fingerprint),)

    def replacement(query, key, value, options):
        return attention_of(options)(query, key, value, options["n_heads"]) + 0.1

    def busy(start):
        clone = start.clone()
        for block in ("input", 4), ("middle", 0):
            clone.set_model_attn2_replace(replacement, *block)
        return clone

    def by_ssr(start):
        return tiny.apply(start, encoder, dog, 0.6)

    def by_elite(start):
        return applied(subject, onto=start)

    orders = [(busy, by_ssr, by_elite), (by_elite, by_ssr, busy), (by_ssr, by_elite, busy)]
    found = []
    for order in orders:
        patched = model
        for step in order:
            patched = step(patched)
        found.append(tiny.sample(patched, positive=say(subject)))
    assert all(golden.relative_error(one, found[0]) <= 1e-5 for one in found[1:])
    assert golden.relative_error(found[0], tiny.sample(by_elite(busy(model)), positive=say(subject))) > 1e-4


def test_keys_and_values_are_made_once(applied, say, subject, elite, monkeypatch):
    calls = []
    project = type(elite.module.local_mapper).project
    monkeypatch.setattr(
        type(elite.module.local_mapper), "project", lambda self, tokens: calls.append(1) or project(self, tokens)
    )
    patched = applied(subject)
    seen, run = [], comfy_host.part("ssr_core.hosts.comfyui.run").Run
    kept = run.kept

    def spy(self, key, make):
        return kept(self, key, lambda: (seen.append(key[0]), make())[1])

    monkeypatch.setattr(run, "kept", spy)
    tiny.sample(patched, positive=say(subject), steps=3)
    layers = len(elite.config.layout.layers)
    assert calls == [1]
    assert seen.count("kv") == layers
    assert seen.count("words at") == 1
