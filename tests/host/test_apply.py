"""The contract with the graph: Apply's MODEL in a real ComfyUI sampler."""

import gc

import pytest
import torch
from support import comfy_host, tiny
from support.golden import relative_error

BLOCKS = [("input", i) for i in (1, 2, 4, 5, 7, 8)] + [("middle", 0)] + [("output", i) for i in range(3, 12)]


@pytest.fixture
def other(encoder):
    return (tiny.subject(encoder.fingerprint, seed=9, query="hat"),)


def test_subject_changes_the_picture_and_upstream_model_stays_bit_identical(apply, model, encoder, subject, plain):
    patched = tiny.apply(model, encoder, subject, 0.65)
    changed = tiny.sample(patched)
    assert torch.isfinite(changed).all()
    assert (changed - plain).abs().max() > 0.01
    assert torch.equal(tiny.sample(model), plain)
    assert torch.equal(tiny.sample(patched), changed)
    assert apply.applied_to(model) == ()
    assert not model.wrappers
    assert not model.attachments


def test_strength_zero_changes_no_bit(model, encoder, subject, plain):
    assert torch.equal(tiny.sample(tiny.apply(model, encoder, subject, 0.0)), plain)
    nobody = tuple(part.scaled(0.0) for part in subject)
    assert torch.equal(tiny.sample(tiny.apply(model, encoder, nobody, 1.0)), plain)


def test_a_subject_of_strength_zero_leaves_the_others_as_they_are(model, encoder, subject, other):
    alone = tiny.sample(tiny.apply(model, encoder, subject, 0.65))
    silent = tuple(part.scaled(0.0) for part in other)
    assert torch.equal(tiny.sample(tiny.apply(model, encoder, subject + silent, 0.65)), alone)


def test_apply_nodes_in_a_row_add_up(model, encoder, subject, other):
    row = tiny.apply(tiny.apply(model, encoder, subject, 0.5), encoder, other, 0.5)
    at_once = tiny.apply(model, encoder, subject + other, 0.5, combine="separate")
    assert torch.equal(tiny.sample(row), tiny.sample(at_once))


def test_by_word_a_single_subject_is_itself(model, encoder, subject):
    joint = tiny.sample(tiny.apply(model, encoder, subject, 0.65))
    assert torch.equal(tiny.sample(tiny.apply(model, encoder, subject, 0.65, combine="by word")), joint)


def test_by_word_two_copies_of_a_subject_are_one(model, encoder, subject):
    """Their shares of every position sum to one."""
    one = tiny.sample(tiny.apply(model, encoder, subject, 0.65))
    twice = tiny.sample(tiny.apply(model, encoder, subject + subject, 0.65, combine="by word"))
    assert relative_error(twice, one) <= 1e-5


@pytest.fixture
def word_keys(monkeypatch):
    """The words' keys at every layer, in the order of the calls."""
    call = comfy_host.part("ssr_core.hosts.comfyui.call")
    seen, original = [], call.word_shares

    def spy(query, keys, heads, covers):
        seen.append(torch.stack(keys))
        return original(query, keys, heads, covers)

    monkeypatch.setattr(call, "word_shares", spy)
    return seen


TO_K = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
"""Of the first layer that runs."""


def moved(word_keys):
    """In which layers the keys of two passes differ."""
    assert len(word_keys) == 32
    return [not torch.equal(one, two) for one, two in zip(word_keys[:16], word_keys[16:], strict=True)]


def test_by_word_goes_by_the_keys_that_the_layer_has_now(model, encoder, subject, other, word_keys):
    """A LoRA on the text keys of a layer moves the shares: they are read when the MODEL samples, not when the node runs."""
    patched = tiny.apply(model, encoder, subject + other, 1.0, combine="by word")
    tiny.sample(patched, steps=1)
    clone = patched.clone()
    clone.add_patches({TO_K: ("diff", (torch.ones(32, 768),))}, 1.0)
    tiny.sample(clone, steps=1)
    assert moved(word_keys) == [True] + [False] * 15


def test_by_word_goes_by_the_keys_of_each_cond_of_a_sampling(encoder, subject, other, word_keys):
    """A LoRA on the positive alone exchanges the layer's weights between two calls of one sampling."""
    import comfy.hooks

    patched = tiny.apply(tiny.model(), encoder, subject + other, 1.0, combine="by word")
    hook = comfy.hooks.WeightHook(1.0, 1.0)
    hook.need_weight_init = False
    hook.weights = {TO_K: ("diff", (torch.ones(32, 768),))}
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    tiny.sample(patched, steps=1, positive=tiny.cond(11, hooks=hooks))
    assert moved(word_keys) == [True] + [False] * 15


def test_keys_and_values_have_the_type_that_a_node_made_the_model_compute_in(apply, encoder, subject):
    stored = tiny.model(dtype=torch.float16, cast=torch.float16)
    stored.add_object_patch("manual_cast_dtype", torch.float32)  # what ModelComputeDtype does
    (applied,) = apply.applied_to(tiny.apply(stored, encoder, subject, 0.5))
    assert applied.branches[0][0][0].dtype == torch.float32


def test_order_of_two_apply_nodes_does_not_matter(model, encoder, subject, other):
    one = tiny.apply(tiny.apply(model, encoder, subject, 0.5), encoder, other, 0.8)
    two = tiny.apply(tiny.apply(model, encoder, other, 0.8), encoder, subject, 0.5)
    assert relative_error(tiny.sample(one), tiny.sample(two)) <= 1e-5


def test_branches_of_a_graph_never_see_each_other(apply, model, encoder, subject, other):
    upstream = tiny.apply(model, encoder, subject, 0.5)
    alone = tiny.sample(upstream)
    downstream = tiny.apply(upstream, encoder, other, 0.5)
    sibling = tiny.apply(upstream, encoder, other, 1.0)
    tiny.sample(downstream)
    tiny.sample(sibling)
    assert len(apply.applied_to(upstream)) == 1
    assert torch.equal(tiny.sample(upstream), alone)


def test_a_clone_by_another_node_keeps_the_subject(model, encoder, subject):
    patched = tiny.apply(model, encoder, subject, 0.65)
    clone = patched.clone()
    clone.set_model_sampler_cfg_function(lambda args: args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"])
    assert relative_error(tiny.sample(clone), tiny.sample(patched)) <= 1e-5


class Foreign:
    """Another pack's attn2 replacement: doubles the text attention. Holds parallel lists, like the packs with an add()."""

    def __init__(self):
        self.calls = 0

    def __call__(self, query, key, value, extra_options):
        from comfy.ldm.modules.attention import optimized_attention

        self.calls += 1
        return 2 * optimized_attention(query, key, value, extra_options["n_heads"])


@pytest.mark.parametrize("depth", [(), (0,)], ids=["two-part key", "three-part key"])
def test_foreign_attn2_replacement_before_or_after_ours_gives_the_same_bits(model, encoder, subject, depth, plain):
    foreign = Foreign()

    def with_foreign(patched):
        clone = patched.clone()
        for stage, number in BLOCKS:
            clone.set_model_attn2_replace(foreign, stage, number, *depth)
        return clone

    only_foreign = tiny.sample(with_foreign(model))
    before = tiny.sample(tiny.apply(with_foreign(model), encoder, subject, 0.65))
    after = tiny.sample(with_foreign(tiny.apply(model, encoder, subject, 0.65)))
    assert torch.equal(before, after)
    assert not torch.allclose(before, only_foreign)
    assert not torch.allclose(only_foreign, plain)
    assert torch.equal(tiny.sample(with_foreign(model)), only_foreign)
    assert torch.equal(tiny.sample(model), plain)


def test_text_attention_goes_through_the_hosts_function_and_its_override(model, encoder, subject):
    patched = tiny.apply(model, encoder, subject, 0.65)
    expected = tiny.sample(patched)
    seen = []

    def override(func, *args, **kwargs):
        seen.append((args[0].shape, args[1].shape))
        return func(*args, **kwargs)

    clone = patched.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = override
    assert torch.equal(tiny.sample(clone, steps=1), tiny.sample(patched, steps=1))
    assert sum(key[1] == 77 for _, key in seen) == 16  # text
    assert sum(key[1] == 462 for _, key in seen) == 16  # subject
    assert torch.equal(tiny.sample(patched), expected)


def test_attention_precision_reaches_text_and_subject_attention(encoder, subject, monkeypatch):
    """The host's --force-upcast-attention arrives as attn_precision and must arrive in every call."""
    from comfy.ldm.modules import attention

    model = tiny.model()
    patched = tiny.apply(model, encoder, subject, 0.65)
    for module in model.model.diffusion_model.modules():
        if type(module).__name__ == "BasicTransformerBlock":
            module.attn_precision = torch.float32
    seen = []
    original = attention.optimized_attention

    def spy(*args, **kwargs):
        seen.append(kwargs.get("attn_precision"))
        return original(*args, **kwargs)

    monkeypatch.setattr(attention, "optimized_attention", spy)
    tiny.sample(patched, steps=1)
    assert seen.count(torch.float32) >= 32


def test_interrupt_passes_through_and_the_next_run_is_clean(model, encoder, subject, plain):
    import comfy.model_management
    import comfy.sample

    patched = tiny.apply(model, encoder, subject, 0.65)
    expected = tiny.sample(patched)
    interruption = comfy.model_management.InterruptProcessingException

    def interrupt(step, *_):
        comfy.model_management.interrupt_current_processing(True)
        comfy.model_management.throw_exception_if_processing_interrupted()

    latent = torch.zeros(1, 4, 16, 16)
    with pytest.raises(interruption), torch.inference_mode():
        comfy.sample.sample(
            patched, latent, 2, 5.0, "euler", "normal", tiny.cond(11), tiny.cond(12), latent, seed=3, callback=interrupt,
            disable_pbar=True,
        )  # fmt: skip
    assert torch.equal(tiny.sample(patched), expected)
    assert torch.equal(tiny.sample(model), plain)


def test_thirty_runs_leave_nothing_behind(model, encoder, subject, plain):
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")

    def census():
        gc.collect()
        objects = gc.get_objects()
        return (
            sum(isinstance(thing, torch.Tensor) for thing in objects),
            sum(isinstance(thing, sampling.Run | sampling.Call | sampling.Applied) for thing in objects),
        )

    tiny.sample(tiny.apply(model, encoder, subject, 0.65), steps=1)
    before = census()
    for strength in range(1, 31):
        tiny.sample(tiny.apply(model, encoder, subject, strength / 30), steps=1)
    assert census() == before
    assert torch.equal(tiny.sample(model), plain)


def test_a_sampler_without_a_guider_still_sees_the_subject(model, encoder, subject):
    """Packs that call apply_model themselves open no run."""
    import comfy.model_management

    patched = tiny.apply(model, encoder, subject, 0.65)
    comfy.model_management.load_models_gpu([patched])
    options = {**patched.model_options["transformer_options"], "wrappers": patched.wrappers}
    latent, text = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 768)
    sigma = torch.tensor([5.0])
    with torch.inference_mode():
        seen = patched.model.apply_model(
            latent, sigma, c_crossattn=text, transformer_options={**options, "cond_or_uncond": [0]}
        )
        bare = patched.model.apply_model(latent, sigma, c_crossattn=text, transformer_options={"cond_or_uncond": [0]})
    assert not torch.allclose(seen, bare)


def test_model_whose_attention_another_pack_exchanged_is_reported(encoder, subject, caplog):
    model = tiny.model()
    patched = tiny.apply(model, encoder, subject, 0.65)
    for module in model.model.diffusion_model.modules():
        if type(module).__name__ == "BasicTransformerBlock":
            module.forward = lambda x, context=None, transformer_options=None: x
    tiny.sample(patched)
    warnings = [record for record in caplog.records if "had no effect" in record.getMessage()]
    assert len(warnings) == 1
    assert "UNetModel" in warnings[0].getMessage()
