"""What a step costs, counted: operations, copies, synchronisations, passes of the vision model."""

import itertools

import pytest
import torch
from support import comfy_host, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

PLAIN_GFLOP = 1606.54688256
"""One UNet call of SD1.5 at 64 x 64 latents, cond + uncond; Xiaojiu-z/SSR_Encoder's own has the same count."""
SUBJECT_GFLOP = 42.69146112
"""Attention of 462 subject tokens in all sixteen layers; projecting K and V at every step would add another 35.4."""


@pytest.fixture(scope="module")
def sampling():
    return comfy_host.part("ssr_core.hosts.comfyui.sampling")


@pytest.fixture(scope="module")
def sd15():
    """SD1.5's UNet at full size, without memory behind its weights."""
    import comfy.model_base
    import comfy.supported_models

    comfy_host.start()
    described = comfy.supported_models.SD15({**tiny.UNET_CONFIG, "model_channels": 320})
    described.set_inference_dtype(torch.float32, None)
    return comfy.model_base.BaseModel(described, device="meta")


class Executor:
    def __init__(self, base, batch):
        self.class_obj = base
        self.text = torch.empty(batch, 77, 768, device="meta")
        self.steps = torch.ones(batch, device="meta")

    def __call__(self, latent, sigmas, c_concat, c_crossattn, control, options):
        return self.class_obj.diffusion_model(latent, self.steps, context=self.text, transformer_options=options)


def gflop(sampling, base, subjects, batch=2, regions=(None,)):
    """Of one UNet call. subjects: per Apply node the tokens of its branches; regions: of the Apply nodes, in turn."""
    layout, made = comfy_host.part("ssr_core.layout").SD15, comfy_host.part("ssr_core.schedule").Manner

    def keys_values(tokens):
        return tuple(tuple(torch.empty(2, tokens, layer.width, device="meta") for _ in range(2)) for layer in layout.layers)

    applied = tuple(
        sampling.Applied(layout, tuple(keys_values(tokens) for tokens in branches), made(0.65, region=region))
        for branches, region in zip(subjects, itertools.cycle(regions), strict=False)
    )
    latent = torch.empty(batch, 4, 64, 64, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run = sampling.bind(applied)
        run(Executor(base, batch), latent, torch.ones(batch), None, None, None, {"cond_or_uncond": [1, 0]})
    return counter.get_total_flops() / 1e9


def test_a_step_with_one_subject_costs_its_attention_and_nothing_else(sampling, sd15):
    assert gflop(sampling, sd15, []) == pytest.approx(PLAIN_GFLOP, abs=1e-6)
    assert gflop(sampling, sd15, [[462]]) == pytest.approx(PLAIN_GFLOP + SUBJECT_GFLOP, abs=1e-6)


@pytest.mark.parametrize("subjects", [[[1386]], [[462] * 3], [[462]] * 3], ids=["joint", "separate", "three Apply nodes"])
def test_three_subjects_cost_three_times_that(sampling, sd15, subjects):
    assert gflop(sampling, sd15, subjects) == pytest.approx(PLAIN_GFLOP + 3 * SUBJECT_GFLOP, abs=1e-6)


def thirds():
    """Three regions with hard edges, side by side, as masks of a 1024-pixel picture."""
    edges = [round(1024 * part / 3) for part in range(4)]
    masks = torch.zeros(3, 1, 1024, 1024)
    for mask, left, right in zip(masks, edges, edges[1:], strict=False):
        mask[..., left:right] = 1.0
    return masks


@pytest.mark.parametrize("branches", [[462], [231, 231]], ids=["joint", "separate"])
def test_three_subjects_in_a_third_of_the_picture_each_cost_what_one_does(sampling, sd15, branches):
    """What is over comes from layers whose grid three does not divide: a column on an edge belongs to both sides."""
    extra = gflop(sampling, sd15, [branches] * 3, regions=thirds()) - PLAIN_GFLOP
    assert SUBJECT_GFLOP <= extra <= 1.1 * SUBJECT_GFLOP


ELITE_SHARE = 0.009
"""Of a plain call: local attention 11.8 GFLOP and gate 1.8, where the authors' code has 9.8 for projecting K and V anew."""


def test_a_subject_of_elite_costs_its_attention_and_a_gate_on_the_subjects_side_alone(sampling, sd15):
    layout, made = comfy_host.part("ssr_core.layout").SD15, comfy_host.part("ssr_core.schedule").Manner
    riders, words = (comfy_host.part(f"ssr_core.hosts.comfyui.{name}") for name in ("riders", "words"))
    branch = tuple(tuple(torch.empty(1, 256, layer.width, device="meta") for _ in range(2)) for layer in layout.layers)
    applied = sampling.Applied(layout, (branch,), made(0.8), words=("one",), maker="elite")
    said = riders.ride(
        [torch.zeros(1, 77, 768), {}], words.KIND, words.PROMPT, words.APPLY, "a S", words.Words({"one": (2,)}, "elite")
    )
    number = said[1]["model_conds"]["ssr_encoder_elite"].cond
    latent = torch.empty(2, 4, 64, 64, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run = sampling.bind((applied,))
        given = {"ssr_encoder_elite": torch.cat([torch.zeros_like(number), number])}
        run(Executor(sd15, 2), latent, torch.ones(2), None, None, None, {"cond_or_uncond": [1, 0]}, **given)
    extra = counter.get_total_flops() / 1e9 - PLAIN_GFLOP
    assert extra == pytest.approx(11.83 + 1.81, abs=0.02)
    assert extra <= ELITE_SHARE * PLAIN_GFLOP


class Recorder(TorchDispatchMode):
    """Names and largest output of every operation while it is switched on."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else ()
        aliases = isinstance(out, torch.Tensor) and any(
            isinstance(arg, torch.Tensor) and arg.data_ptr() == out.data_ptr() for arg in args
        )
        self.calls.append((str(func).removeprefix("aten.").split(".")[0], shape, aliases))
        return out


@pytest.mark.parametrize("batch", [1, 16])
def test_no_synchronisation_and_no_copy_of_keys_and_values_inside_a_layer(
    sampling, model, encoder, subject, batch, monkeypatch
):
    """From the second step on, a layer adds views, one attention and one sum; K and V are never written again."""
    recorder, original, steps = Recorder(), sampling.Call.add, []

    def add(self, layer):
        if layer.site.index == 0:
            steps.append(len(recorder.calls))
        with recorder:
            return original(self, layer)

    monkeypatch.setattr(sampling.Call, "add", add)
    tiny.sample(tiny.apply(model, encoder, subject, 0.65), steps=3, batch=batch)
    later = recorder.calls[steps[1] :]
    names = {name for name, _, _ in later}
    assert not names & {
        "_local_scalar_dense",
        "item",
        "_to_copy",
        "copy_",
        "clone",
        "repeat",
        "cat",
        "stack",
        "index",
        "nonzero",
    }
    assert all(aliases for _, shape, aliases in later if 462 in shape)  # K and V appear as views of themselves only
    assert sum("attention" in name for name, _, _ in later) == 2 * 16
    assert sum(name == "add" for name, _, _ in later) == 2 * 16


def test_sixteen_frames_need_no_more_keys_and_values_than_one(sampling, apply, model, encoder, subject, monkeypatch):
    held = []
    original = sampling.open_run

    def open_run(subjects):
        wrapped = original(subjects)

        def outer_sample(executor, *args, **kwargs):
            options = executor.class_obj.model_options["transformer_options"]
            run_type, runs = sampling.Run, []
            monkeypatch.setattr(sampling, "Run", lambda *a, **kw: runs.append(run_type(*a, **kw)) or runs[-1])
            result = wrapped(executor, *args, **kwargs)
            monkeypatch.setattr(sampling, "Run", run_type)
            assert sampling.KEY not in options
            tensors = [t for key, pair in runs[0]._kept.items() if key[0] == "kv" for t in pair]
            held.append(sum(t.untyped_storage().nbytes() for t in {t.data_ptr(): t for t in tensors}.values()))
            return result

        return outer_sample

    monkeypatch.setattr(apply, "open_run", open_run)
    for batch in (1, 16):
        tiny.sample(tiny.apply(model, encoder, subject, 0.65), steps=1, batch=batch)
    widths = sum(layer.width for layer in encoder.config.layout.layers)
    assert held == [2 * 462 * widths * 2 * 4] * 2  # rows x tokens x widths x (K, V) x float32


def test_keys_and_values_are_projected_once_at_apply(model, encoder, subject, monkeypatch):
    calls = []
    for layer in encoder.module.layers:
        monkeypatch.setattr(layer, "forward", lambda tokens, forward=layer.forward: calls.append(1) or forward(tokens))
    patched = tiny.apply(model, encoder, subject, 0.65)
    assert len(calls) == 16
    tiny.sample(patched, steps=3)
    assert len(calls) == 16


def test_a_schedule_that_is_always_on_never_reads_the_step_from_the_device(sampling, model, encoder, subject, monkeypatch):
    read = []
    original = sampling.Run._at
    monkeypatch.setattr(sampling.Run, "_at", lambda self, *args: read.append(1) or original(self, *args))
    tiny.sample(tiny.apply(model, encoder, subject, 0.65), steps=3)
    assert not read
    scheduled = comfy_host.part("ssr_core.schedule").StepSchedule(0.2, 0.8)
    tiny.sample(tiny.apply(model, encoder, subject, 0.65, steps=scheduled), steps=3)
    assert len(read) == 3  # once a step, not once a layer
