"""Under the host's torch.compile wrapper: the same numbers and one graph, for all steps and subjects."""

import shutil

import pytest
import torch
from support import comfy_host, tiny, tiny_elite, tiny_sdxl
from support.golden import relative_error


def wrap(model, backend="eager"):
    """As the host's nodes compile a MODEL's UNet. eager: dynamo alone, no code generation."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    clone = model.clone()
    set_torch_compile_wrapper(clone, backend=backend)
    return clone


@pytest.fixture(autouse=True)
def counters():
    """What dynamo counts, from nothing."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


@pytest.fixture
def other(encoder):
    return (tiny.subject(encoder.fingerprint, seed=9, query="hat"),)


@pytest.mark.parametrize("combine", ["joint", "by word"])
def test_the_unet_stays_one_graph_for_all_steps_and_subjects(encoder, subject, other, counters, combine):
    patched = tiny.apply(tiny.model(), encoder, subject + other, 0.65, combine=combine)
    expected = tiny.sample(patched, steps=4)
    fast = wrap(patched)
    for _ in range(2):
        assert torch.equal(tiny.sample(fast, steps=4), expected)
    exchanged = tiny.apply(patched, encoder, other, 0.3, combine=combine)
    found = tiny.sample(wrap(exchanged), steps=4)
    assert torch.equal(found, tiny.sample(exchanged, steps=4))
    assert not torch.allclose(found, expected)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_subject_may_be_applied_after_compiling(encoder, subject, counters):
    model = tiny.model()
    fast = wrap(model)
    plain = tiny.sample(fast, steps=2)
    expected = tiny.sample(tiny.apply(model, encoder, subject, 0.65), steps=2)
    assert torch.equal(tiny.sample(tiny.apply(fast, encoder, subject, 0.65), steps=2), expected)
    assert torch.equal(tiny.sample(fast, steps=2), plain)
    assert counters["stats"]["unique_graphs"] == 2, "one with and one without"


def test_regions_schedules_and_footprints_are_not_compiled_in(encoder, subject, counters):
    recording = comfy_host.part("ssr_core.hosts.comfyui.recording").recording
    schedule = comfy_host.part("ssr_core.schedule").StepSchedule(curve=(1.0, 0.2))
    model = tiny.model()
    left = torch.zeros(1, 16, 16)
    left[..., :8] = 1.0
    drawn = []
    for region in (left, 1 - left):
        patched, recorder = recording(tiny.apply(model, encoder, subject, 0.65, steps=schedule, region=region))
        assert torch.equal(tiny.sample(wrap(patched), steps=4), tiny.sample(patched, steps=4))
        drawn.append(recorder.footprint.maps()[0, 0])
    assert drawn[0][:, :8].mean() > drawn[0][:, 9:].mean()
    assert drawn[1][:, :7].mean() < drawn[1][:, 8:].mean()
    assert counters["stats"]["unique_graphs"] == 1


def test_another_packs_replacement_that_reads_the_step_is_not_compiled_anew_at_each(encoder, subject, counters):
    def theirs(query, key, value, extra_options):
        return query * float(extra_options["sigmas"][0])

    model = tiny.model()
    model.set_model_attn2_replace(theirs, "input", 1)
    patched = tiny.apply(model, encoder, subject, 0.65)
    fast = wrap(patched)
    tiny.sample(fast, steps=4)
    warm = counters["frames"]["total"]
    others = {"steps": 4, "scheduler": "karras"}  # other sigmas
    assert torch.equal(tiny.sample(fast, **others), tiny.sample(patched, **others))
    assert counters["frames"]["total"] == warm


def test_the_operation_keeps_the_rules_of_code_generators(encoder, subject):
    """aot_eager traces as they do, with tensors that have shapes but no numbers, and generates nothing."""
    patched = tiny.apply(tiny.model(), encoder, subject, 0.65)
    expected = tiny.sample(patched, steps=2)
    assert relative_error(tiny.sample(wrap(patched, "aot_eager"), steps=2), expected) <= 1e-5


def test_a_torch_that_cannot_keep_an_operation_out_of_cuda_graphs_breaks_the_graph_instead(
    encoder, subject, other, counters, monkeypatch
):
    """Before torch 2.9: more graphs, but the same bits, and still none anew from step to step or for another subject."""
    module = comfy_host.part("ssr_core.hosts.comfyui.compiled")
    monkeypatch.setattr(module, "_add_subjects", module._operation(None))
    patched = tiny.apply(tiny.model(), encoder, subject, 0.65)
    expected = tiny.sample(patched, steps=4)
    assert torch.equal(tiny.sample(wrap(patched), steps=4), expected)
    assert counters["graph_break"]
    warm = counters["frames"]["total"]
    exchanged = tiny.apply(patched, encoder, other, 0.3)
    assert torch.equal(tiny.sample(wrap(exchanged), steps=4), tiny.sample(exchanged, steps=4))
    assert counters["frames"]["total"] == warm


def test_objects_of_the_mip_adapter_stay_in_one_graph(counters, tmp_path):
    """The gate reads the layer's text attention, and shares the keys of names, within the operation."""
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.mip"), comfy_host.part("ssr_core.schedule").Manner
    adapter = host.load_adapter(str(tiny_sdxl.adapter_file(tmp_path / "mip.safetensors")))
    model = tiny_sdxl.model()
    drawn = []
    for seeds, combine in (((1, 2), "by word, gated"), ((3, 4), "by word, gated"), ((3, 4), "separate")):
        objects = tuple(tiny_sdxl.mip_object(adapter.fingerprint, seed) for seed in seeds)
        with torch.inference_mode():
            patched = host.apply_objects(model, adapter, objects, manner(0.75), combine)
        drawn.append(tiny_sdxl.sample(patched, steps=3))
        assert torch.equal(tiny_sdxl.sample(wrap(patched), steps=3), drawn[-1])
    assert all(relative_error(one, drawn[0]) > 1e-3 for one in drawn[1:])
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_subjects_of_elite_stay_in_one_graph_wherever_prompts_say_them(clip, counters, tmp_path):
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.elite"), comfy_host.part("ssr_core.schedule").Manner
    elite = host.load_elite([str(tiny_elite.file(tmp_path / "elite.safetensors", tiny_elite.small()))])
    model = tiny.model()
    drawn = []
    for seed, text in ((1, "a photo of a S"), (1, "a S and once more a S"), (2, "a photo of a S")):
        subjects = (tiny_elite.subject(elite.fingerprint, seed),)
        with torch.inference_mode():
            patched = host.apply_subjects(model, elite, subjects, manner(0.8))
            positive = host.encode_prompt(clip, subjects, text, ["S"])
        drawn.append(tiny.sample(patched, steps=3, positive=positive))
        assert torch.equal(tiny.sample(wrap(patched), steps=3, positive=positive), drawn[-1])
    assert all(relative_error(one, drawn[0]) > 1e-3 for one in drawn[1:])
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch's code generator needs")
def test_generated_code_draws_the_same_picture(encoders, counters, tmp_path):
    """The host's default backend, on a UNet of four cross-attentions, as generating code takes its time."""
    small = {
        "channel_mult": [1, 2],
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_output": [1, 1, 0, 0],
    }
    model = tiny.model({**tiny.UNET_CONFIG, **small})
    layout = {"channels": [32, 64], "depths": [1, 0], "resnets": 1, "heads": 8, "mid_depth": 1}
    encoder = encoders.load_encoder([str(tiny.encoder_file(tmp_path / "small.safetensors", layout))])
    plain = tiny.sample(model)
    for seed in (2, 9):
        patched = tiny.apply(model, encoder, (tiny.subject(encoder.fingerprint, seed),), 0.65)
        expected = tiny.sample(patched)
        assert relative_error(tiny.sample(wrap(patched, "inductor")), expected) <= 1e-4
        assert relative_error(expected, plain) > 1e-2
    assert counters["stats"]["unique_graphs"] == 1
