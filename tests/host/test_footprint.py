"""Footprints and the report, in a real sampler."""

import pytest
import torch
from support import comfy_host, tiny
from support.golden import relative_error


@pytest.fixture(scope="session")
def recording():
    return comfy_host.part("ssr_core.hosts.comfyui.recording").recording


@pytest.fixture
def other(encoder):
    return (tiny.subject(encoder.fingerprint, seed=9, query="hat"),)


def test_recording_changes_no_bit_and_its_place_does_not_matter(recording, model, encoder, subject):
    expected = tiny.sample(tiny.apply(model, encoder, subject, 0.65))
    before, first = recording(model)
    after, second = recording(tiny.apply(model, encoder, subject, 0.65))
    assert torch.equal(tiny.sample(tiny.apply(before, encoder, subject, 0.65)), expected)
    assert torch.equal(tiny.sample(after), expected)
    assert torch.equal(first.footprint.maps(), second.footprint.maps())
    assert first.footprint.maps().shape == (1, 1, 16, 16)


def test_two_recorders_in_a_row_both_see_the_sampling(recording, model, encoder, subject):
    once, first = recording(tiny.apply(model, encoder, subject, 0.65))
    twice, second = recording(once)
    tiny.sample(twice, steps=1)
    assert torch.equal(first.footprint.maps(), second.footprint.maps())
    assert first.footprint.maps().max() == 1


def test_nothing_is_noted_where_nobody_asked(model, encoder, subject, monkeypatch):
    call = comfy_host.part("ssr_core.hosts.comfyui.call")
    monkeypatch.setattr(call, "record", pytest.fail)
    tiny.sample(tiny.apply(model, encoder, subject, 0.65), steps=1)


def test_a_subject_in_a_region_leaves_its_footprint_there(recording, model, encoder, subject, other):
    left, right = torch.zeros(2, 1, 16, 16)
    left[..., :8], right[..., 8:] = 1.0, 1.0
    patched, recorder = recording(tiny.apply(model, encoder, subject, 0.65, region=left))
    tiny.sample(tiny.apply(patched, encoder, other, 0.65, region=right), steps=1)
    first, second = recorder.footprint.maps()[:, 0]
    assert recorder.footprint.queries == ("dog", "hat")
    assert first[:, :8].mean() > 10 * first[:, 9:].mean()
    assert second[:, 9:].mean() > 10 * second[:, :7].mean()


@pytest.mark.parametrize("combine", ["joint", "separate", "by word"])
def test_contributions_of_all_subjects_sum_to_what_is_added(recording, model, encoder, subject, other, monkeypatch, combine):
    """A shared softmax is taken apart by whose values they are: nothing is lost and nothing counted twice."""
    module = comfy_host.part("ssr_core.hosts.comfyui.recording")
    alone, original = [], module.magnitude

    def spy(delta, text):
        alone.append(delta)
        return original(delta, text)

    monkeypatch.setattr(module, "magnitude", spy)
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    added, add = [], sampling.Call.add

    def whole(self, layer):
        out = add(self, layer)
        added.append((out - layer.text).chunk(2)[1])  # the conditional chunk
        return out

    monkeypatch.setattr(sampling.Call, "add", whole)
    patched, _ = recording(tiny.apply(model, encoder, subject + other, 0.65, combine=combine))
    tiny.sample(patched, steps=1)
    assert len(alone) == 2 * len(added) == 32
    for number, both in enumerate(added):
        assert relative_error(alone[2 * number] + alone[2 * number + 1], both) <= 1e-4


def test_the_recorder_keeps_the_last_sampling_and_all_its_pictures(recording, model, encoder, subject):
    patched, recorder = recording(tiny.apply(model, encoder, subject, 0.65))
    assert recorder.footprint is None
    tiny.sample(patched, steps=1)
    tiny.sample(patched, steps=1, size=(8, 24), batch=3)
    assert recorder.footprint.maps().shape == (1, 3, 8, 24)


def test_the_report_says_what_acts_where_and_beside_whom(recording, model, encoder, subject, other):
    describe = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe
    assert "0 subjects in 0 Apply nodes" in describe(model)
    schedule = comfy_host.part("ssr_core.schedule")
    layers = schedule.layer_strengths(encoder.config.layout, "decoder only")
    patched = tiny.apply(
        model, encoder, subject + other, 0.65, steps=schedule.StepSchedule(0.0, 0.8), layers=layers, combine="by word"
    )
    patched.set_model_attn2_replace(lambda query, key, value, options: query, "input", 1)
    patched.set_model_sampler_cfg_function(lambda args: args["cond"])
    report = describe(patched)
    for line in (
        f"torch {torch.__version__}",
        "16 cross-attentions",
        "weights torch.float32, on cpu, offloaded to cpu",
        "model sampling: ModelSamplingDiscrete, EPS",
        "2 subjects in 1 Apply node",
        '1. "dog", "hat", by word',
        "strength 0.65, in 9 of 16 cross-attentions: output 3 4 5 6 7 8 9 10 11",
        "steps 0 to 0.8, region everywhere",
        "K and V: 462 + 462 tokens, torch.float32, 18.5 MB on cpu",
        f"also replaces cross-attentions: {__name__}.",
        "at input 1 (called first, then ours is added)",
        f"sampler_cfg_function: {__name__}.",
        "not sampled yet with these subjects",
    ):
        assert line in report, line
    tiny.sample(patched, steps=1)
    assert "batches of the last sampling: [null, subject]" in describe(patched)
    tiny.sample(recording(patched)[0], steps=1, cfg=1.0)
    assert "batches of the last sampling: [subject]" in describe(patched)
    tiny.sample(tiny.apply(patched, encoder, other, 0.5), steps=1)
    assert "batches of the last sampling: [subject]" in describe(patched), "another MODEL's sampling is none of this one's"
    stages = tiny.apply(
        model, encoder, subject, 0.5, layers=schedule.layer_strengths(encoder.config.layout, numbers=(1, 0, 0.5))
    )
    assert "in 15 of 16 cross-attentions: input 1 2 4 5 7 8, output 3 4 5 6 7 8 9 10 11" in describe(stages)
    assert "times 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5 there" in describe(stages)


def test_the_report_names_the_hosts_own_nodes_and_loras(model):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    guided = model.clone()
    guided.add_patches({"diffusion_model.input_blocks.0.0.weight": (torch.zeros(32, 4, 3, 3),)})
    for node, settings in ((PerturbedAttentionGuidance, (3.0,)), (SelfAttentionGuidance, (0.5, 2.0))):
        guided = node().execute(guided, *settings).args[0]
    report = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe(guided)
    assert "LoRAs and the like on 1 weight\n" in report
    assert "replaces attn1: comfy_extras.nodes_sag.SelfAttentionGuidance." in report
    assert "sampler_post_cfg_function: comfy_extras.nodes_pag.PerturbedAttentionGuidance." in report


@pytest.mark.parametrize("folder", ["/home/ann/ComfyUI/custom_nodes/", "C:\\Users\\ann\\ComfyUI\\custom_nodes\\"])
def test_the_report_names_a_pack_but_not_where_it_lies(model, folder):
    def theirs(query, key, value, options):
        return query

    theirs.__module__ = f"{folder}ComfyUI-Theirs.attention"  # as the host imports packs
    patched = model.clone()
    patched.set_model_attn2_replace(theirs, "middle", 0)
    report = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe(patched)
    assert "also replaces cross-attentions: ComfyUI-Theirs.attention." in report
    assert "ann" not in report
