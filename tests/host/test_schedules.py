"""When and where a subject acts, inside a real sampler."""

import pytest
import torch
from support import comfy_host, tiny


@pytest.fixture
def strengths(monkeypatch):
    """Multiplier of the first applied subject at every UNet call, with that call's sigma."""
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    seen, original = [], sampling.Run.strengths

    def record(self, model_sampling, sigmas):
        result = original(self, model_sampling, sigmas)
        seen.append((float(sigmas.max()), result[0]))
        return result

    monkeypatch.setattr(sampling.Run, "strengths", record)
    return seen


@pytest.fixture(scope="session")
def schedule():
    return comfy_host.part("ssr_core.schedule")


def test_start_and_end_follow_the_hosts_percent_to_sigma(model, encoder, subject, schedule, strengths):
    window = schedule.StepSchedule(0.25, 0.75)
    tiny.sample(tiny.apply(model, encoder, subject, 0.5, steps=window), steps=8)
    sampling = model.model.model_sampling
    first, last = sampling.percent_to_sigma(0.25), sampling.percent_to_sigma(0.75)
    assert len(strengths) == 8
    assert {multiplier for _, multiplier in strengths} == {0.0, 0.5}
    for sigma, multiplier in strengths:
        assert (multiplier == 0.5) == (last <= sigma <= first)


def test_steps_outside_the_window_keep_their_bits(model, encoder, subject, schedule, plain):
    never = schedule.StepSchedule(0.4, 0.45)  # between the two steps
    assert torch.equal(tiny.sample(tiny.apply(model, encoder, subject, 0.65, steps=never)), plain)


def test_a_sampling_node_stacked_after_apply_moves_the_window(model, encoder, subject, schedule, strengths):
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    half = schedule.StepSchedule(0.0, 0.5)
    before = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    patched = tiny.apply(model, encoder, subject, 0.5, steps=half)
    stacked = ModelSamplingContinuousEDM().patch(patched, "eps", 120.0, 0.002)[0]
    tiny.sample(stacked, steps=8)
    sigma_half = stacked.get_model_object("model_sampling").percent_to_sigma(0.5)
    assert sigma_half < 0.5 * before
    assert max(sigma for sigma, _ in strengths) > 100  # the stacked sampling was in force
    for sigma, multiplier in strengths:
        assert (multiplier == 0.5) == (sigma >= sigma_half)


def test_a_curve_runs_over_the_window(model, encoder, subject, schedule, strengths):
    fading = schedule.StepSchedule(0.0, 1.0, (1.0, 0.0))
    tiny.sample(tiny.apply(model, encoder, subject, 1.0, steps=fading), steps=6)
    sampling = model.model.model_sampling
    values = [multiplier for _, multiplier in strengths]
    assert values == sorted(values, reverse=True)
    for sigma, multiplier in strengths:
        share = 1 - float(sampling.timestep(torch.tensor(sigma))) / 999
        assert multiplier == pytest.approx(1 - share, abs=5e-3)


def test_layers_that_are_off_are_not_touched(model, encoder, subject, schedule, monkeypatch):
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    met, original = set(), sampling.Call.add

    def add(self, layer):
        met.add(layer.site.block)
        return original(self, layer)

    monkeypatch.setattr(sampling.Call, "add", add)
    layers = schedule.layer_strengths(encoder.config.layout, "decoder only")
    tiny.sample(tiny.apply(model, encoder, subject, 0.65, layers=layers), steps=1)
    assert met == {("output", number, 0) for number in range(3, 12)}


@pytest.mark.parametrize("size", [(16, 16), (24, 8), (17, 23)], ids=str)
def test_region_all_one_equals_no_region(model, encoder, subject, size):
    everywhere = tiny.apply(model, encoder, subject, 0.65, region=torch.ones(1, 40, 56))
    without = tiny.apply(model, encoder, subject, 0.65)
    assert torch.equal(tiny.sample(everywhere, size=size), tiny.sample(without, size=size))


def layer_deltas(model, encoder, subject, monkeypatch, size=(16, 16), batch=1, **options):
    """What the subject adds in every layer, as [chunks * pictures, h, w] magnitude per position."""
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    deltas, original = {}, sampling.Call.add

    def add(self, layer):
        out = original(self, layer)
        deltas.setdefault(layer.site.block, (out - layer.text).abs().amax(-1).unflatten(1, layer.grid))
        return out

    monkeypatch.setattr(sampling.Call, "add", add)
    tiny.sample(tiny.apply(model, encoder, subject, 1.0, **options), steps=1, size=size, batch=batch)
    return deltas


@pytest.mark.parametrize("size", [(16, 16), (24, 8), (17, 23)], ids=str)
def test_half_a_region_acts_on_its_half_in_every_layer(model, encoder, subject, size, monkeypatch):
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    deltas = layer_deltas(model, encoder, subject, monkeypatch, size, region=left)
    assert len(deltas) == 16
    for delta in deltas.values():
        width = delta.shape[-1]
        if width > 1:  # the deepest layer of a narrow picture is one column wide
            assert delta[..., : width // 2].min() > 0
            assert delta[..., (width + 1) // 2 :].max() == 0


def test_frames_of_a_region_go_to_their_pictures(model, encoder, subject, monkeypatch):
    frames = torch.zeros(3, 32, 32)
    frames[0], frames[2, :16] = 1.0, 1.0
    deltas = layer_deltas(model, encoder, subject, monkeypatch, batch=4, region=frames)
    for delta in deltas.values():
        first, second, third, fourth = delta.unflatten(0, (2, 4)).unbind(1)  # [chunks, h, w] each
        assert first.min() > 0
        assert second.max() == 0
        assert third[:, 0].min() > 0
        assert third[:, -1].max() == 0
        assert torch.equal(fourth > 0, third > 0)  # the last frame is held


def test_context_windows_take_their_own_frames(encoder, subject, monkeypatch):
    """AnimateDiff-Evolved tells which frames of the video a pass works on in ad_params."""
    frames = torch.zeros(8, 32, 32)
    frames[5] = 1.0
    model = tiny.model()
    model.model_options["transformer_options"]["ad_params"] = {"sub_idxs": [4, 5], "full_length": 8, "context_length": 2}
    deltas = layer_deltas(model, encoder, subject, monkeypatch, batch=2, region=frames)
    for delta in deltas.values():
        fifth, sixth = delta.unflatten(0, (2, 2)).unbind(1)
        assert fifth.max() == 0
        assert sixth.min() > 0


def test_every_picture_of_a_batch_has_its_own_strength(model, encoder, subject, monkeypatch):
    even = layer_deltas(model, encoder, subject, monkeypatch, batch=4)
    monkeypatch.undo()
    frames = tiny.apply(model, encoder, subject, [1.0, 0.0, 0.5])
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    deltas, original = {}, sampling.Call.add

    def add(self, layer):
        out = original(self, layer)
        deltas.setdefault(layer.site.block, (out - layer.text).abs().amax(-1))
        return out

    monkeypatch.setattr(sampling.Call, "add", add)
    tiny.sample(frames, steps=1, batch=4)
    block = ("input", 1, 0)  # the first layer: nothing upstream of it differs yet
    expected = even[block].flatten(1).unflatten(0, (2, 4)) * torch.tensor([1.0, 0.0, 0.5, 0.5])[:, None]
    torch.testing.assert_close(deltas[block].unflatten(0, (2, 4)), expected, rtol=1e-3, atol=1e-5)


def test_strengths_of_a_context_window_are_its_own_frames(encoder, subject):
    model = tiny.model()
    frames = [0.0, 0.1, 0.2, 0.3, 0.7, 0.4, 0.0, 0.0]
    model.model_options["transformer_options"]["ad_params"] = {"sub_idxs": [4, 5], "full_length": 8, "context_length": 2}
    window = tiny.sample(tiny.apply(model, encoder, subject, frames), batch=2)
    del model.model_options["transformer_options"]["ad_params"]
    assert torch.equal(window, tiny.sample(tiny.apply(model, encoder, subject, [0.7, 0.4]), batch=2))


def test_no_frame_of_any_strength_is_no_subject(model, encoder, subject):
    assert tiny.apply(model, encoder, subject, [0.0, 0.0]) is model
