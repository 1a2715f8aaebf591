"""Training on the built-in models: what a step computes, and that a run can be stopped, resumed and spread over processes."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import safe_open
from safetensors.torch import load_file

from ssr_core.hosts.diffusers.load import load_base
from ssr_core.losses import balanced_weights
from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.losses import objective
from ssr_core.pretrain.dataset import write
from ssr_core.training import config, loop, records, run_state, state_file
from ssr_core.training.cache import cached_reader
from ssr_core.training.examples import Examples, PictureReader, choose, collate
from ssr_core.training.frozen import Frozen
from ssr_core.training.methods import read_config
from ssr_core.training.precision import has_bf16
from ssr_core.training.ssr import SSR, SSRConfig

ENCODER, AVERAGED = loop.trained_file(SSR), loop.trained_file(SSR, averaged=True)
PACK = Path(__file__).parents[2]
FIELDS = {
    "base": "mini",
    "inner_width": 32,
    "heads": 2,
    "vision_layers": [1, 2, 3, 4, 5, 6],
    "steps": 4,
    "batch_size": 2,
    "size": 128,
    "lr": 1e-3,
    "drop_prompt": 0.3,
    "drop_subject": 0.2,
    "mask_query": 0.5,
    "workers": 0,
    "save_every": 2,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write(folder, families=4, seed=0, processes=1)
    return folder


@pytest.fixture(scope="module")
def base():
    return load_base("mini")


def settings(world, out, **changes):
    return SSRConfig(**{**FIELDS, "vision_layers": (1, 2, 3, 4, 5, 6), "data": str(world), "out": str(out), **changes})


def method(base, config):
    """A fresh encoder around the base."""
    return SSR(config, Frozen(base, torch.device("cpu"), "loaded"))


def encode(method, examples):
    return method.encode(method.frozen.encode(collate(examples)))


def weights(checkpoint, name=ENCODER):
    return load_file(checkpoint / name)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def assert_stepped_alike(found, expected, name):
    """A step moves a weight by 1e-4 whatever its gradient; only where that is nearly 0 may the order of a sum show."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, msg=name)
    beyond = int(((found - expected).abs() > 2e-6).sum())
    assert beyond <= 1 + expected.numel() // 10_000, f"{name}: {beyond} of {expected.numel()} weights differ"


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """One process may hold one precision; every test starts anew."""
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_run_that_was_stopped_and_resumed_has_the_same_bits(world, tmp_path):
    changes = {"ema": 0.9, "clip_norm": 1.0, "flip": 0.0, "cache": str(tmp_path / "cache")}
    whole = loop.train(settings(world, tmp_path / "whole", **changes), cpu=True)
    broken = settings(world, tmp_path / "broken", **changes)
    stopped = loop.train(broken, cpu=True, stop_after=3)
    assert stopped.name == "checkpoint-3"
    with pytest.raises(ValueError, match=r"already holds checkpoint-3\. Pass --resume"):
        loop.train(broken, cpu=True)
    resumed = loop.train(broken, resume=True, cpu=True)
    assert same(weights(whole), weights(resumed))
    assert same(weights(whole, AVERAGED), weights(resumed, AVERAGED))
    assert not same(weights(whole), weights(stopped))
    assert not same(weights(whole), weights(whole, AVERAGED))


def test_a_checkpoint_loads_as_any_encoder_and_carries_its_configuration(world, tmp_path):
    own = settings(world, tmp_path / "run", steps=1)
    checkpoint = loop.train(own, cpu=True)
    encoder = formats.load([checkpoint / ENCODER])
    assert encoder.config.inner_width == 32
    with safe_open(checkpoint / ENCODER, "pt") as file:
        assert yaml.safe_load(file.metadata()["training"]) == yaml.safe_load(own.to_yaml())
    assert read_config(checkpoint / "config.yaml") == own


def test_fine_tuning_starts_from_a_checkpoint_and_only_keeps_as_many_as_asked(world, tmp_path):
    first = loop.train(settings(world, tmp_path / "first", steps=1), cpu=True)
    own = settings(world, tmp_path / "second", start_from=(str(first / ENCODER),), lr=0.0, save_every=1, keep=1)
    last = loop.train(own, cpu=True)
    assert same(weights(first), weights(last))
    assert sorted(path.name for path in (tmp_path / "second").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]


def test_every_trained_weight_gets_a_gradient_and_the_base_none(world, base):
    own = settings(world, "unused")
    ours = method(base, own)
    source = records.read(own.data)
    examples = Examples(source, ours.inputs, PictureReader(source, ours.inputs))
    with ours.loss(ours.module, encode(ours, [examples[position] for position in range(2)]), nullcontext) as losses:
        losses["total"].backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in ours.module.parameters())
    assert all(parameter.grad is None for parameter in base.unet.parameters())


def test_a_subject_that_a_record_lacks_contributes_nothing(world, base):
    """Records with one and two subjects fill a batch for three; each has the losses that it has where there is place for no more."""
    source = records.read(str(world))
    told = [next(record for record in source.records if len(record.subjects) == count) for count in (1, 2)]

    def losses_of(subjects, *chosen):
        torch.manual_seed(0)  # of the fresh weights
        ours = method(base, settings(world, "unused", drop_subject=0.0, subjects=subjects, regulariser=0.1))
        reader = PictureReader(source, ours.inputs)
        batch = encode(ours, [reader(record, choose(record, ours.inputs, "0")) for record in chosen])
        assert batch["features"].shape[1] == subjects
        with ours.loss(ours.module, batch, nullcontext) as losses:
            losses["total"].backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in ours.module.parameters()])
        return losses["noise"].detach(), losses["consistency"].detach(), gradients

    alone = [losses_of(count, record) for count, record in enumerate(told, start=1)]
    for record, expected in zip(told, alone, strict=True):
        torch.testing.assert_close(losses_of(3, record), expected, rtol=1e-4, atol=1e-6)
    together = losses_of(3, *told)
    torch.testing.assert_close(
        together, tuple((one + other) / 2 for one, other in zip(*alone, strict=True)), rtol=1e-4, atol=1e-6
    )


def test_the_cache_holds_what_the_encoders_give(world, base, tmp_path):
    own = settings(world, "unused", flip=0.5)
    ours = method(base, own)
    source = records.read(own.data)
    cached = cached_reader(tmp_path / "cache", source, ours)
    fresh = PictureReader(source, ours.inputs)
    for position in range(6):
        record = source.records[position]
        choice = choose(record, ours.inputs, str(position))
        one, other = encode(ours, [fresh(record, choice)]), encode(ours, [cached(record, choice)])
        assert one.keys() == other.keys()
        for name in ("mean", "std", "prompt_embeds", "query_embeds", "masks", "mask_weights"):
            torch.testing.assert_close(one[name], other[name].float(), rtol=1e-4, atol=1e-4, msg=name)
        torch.testing.assert_close(one["features"], other["features"].float(), rtol=2e-3, atol=2e-2)  # kept in float16
    with pytest.raises(ValueError, match="computed from other data, other models or another size"):
        cached_reader(tmp_path / "cache", source, method(base, settings(world, "unused", flip=0.0)))


def test_pictures_that_come_again_are_encoded_once_on_a_cpu(base, monkeypatch):
    frozen = Frozen(base, torch.device("cpu"), "")
    calls = []
    encode = type(base).latents
    monkeypatch.setattr(type(base), "latents", lambda self, pixels: calls.append(len(pixels)) or encode(self, pixels))
    one, other = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first = frozen.latents(torch.stack([one, other]))[0]
    again = frozen.latents(torch.stack([other, one, other]))[0]
    assert calls == [1, 1]
    assert torch.equal(again, first[[1, 0, 1]])
    torch.testing.assert_close(first, encode(base, torch.stack([one, other]))[0])


def test_features_of_references_that_come_again_are_made_once_on_a_cpu(base):
    frozen = Frozen(base, torch.device("cpu"), "")
    calls = []

    def make(pixels):
        calls.append(len(pixels))
        return pixels.mean(dim=(2, 3))

    one, other = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first = frozen.features(torch.stack([one, other]), make)
    again = frozen.features(torch.stack([other, one, other]), make)
    assert calls == [1, 1]
    assert torch.equal(again, first[[1, 0, 1]])
    assert torch.equal(first, torch.stack([one, other]).mean(dim=(2, 3)))


def test_validation_draws_a_sheet_without_touching_the_run(world, tmp_path):
    picture = {"reference": str(world / "references" / "000000.png"), "query": "star", "prompt": "a star on the blue sea"}
    shown = (config.ValidationPicture(**picture),)
    plain = loop.train(settings(world, tmp_path / "plain"), cpu=True)
    seen = loop.train(settings(world, tmp_path / "seen", validation=shown, validate_every=2, validation_steps=2), cpu=True)
    assert same(weights(plain), weights(seen))
    assert (tmp_path / "seen" / "validation" / "step-000002.png").is_file()
    assert list((tmp_path / "seen" / "logs").glob("events*"))


def test_a_loss_that_is_no_number_stops_the_run_and_says_what_to_do(world, tmp_path):
    with pytest.raises(FloatingPointError, match=r"The loss is .* at step .* Lower lr, set clip_norm"):
        loop.train(settings(world, tmp_path / "run", lr=1e30, steps=10, save_every=100), cpu=True)


def test_two_processes_take_the_steps_that_one_takes_with_twice_the_batch(world, tmp_path):
    """Gradients of all trained layers are averaged, aligner and projections alike."""
    one = loop.train(settings(world, tmp_path / "one", batch_size=4, steps=2, lr=1e-4), cpu=True)
    file = tmp_path / "two.yaml"
    file.write_text(settings(world, tmp_path / "two", steps=2, lr=1e-4).to_yaml())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "ssr_core.cli", "train", str(file), "--cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=PACK, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    expected, found = weights(one), weights(tmp_path / "two" / "checkpoint-2")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert_stepped_alike(found[name], value, name)


def test_accumulated_batches_are_one_large_batch(world, tmp_path):
    whole = weights(loop.train(settings(world, tmp_path / "whole", batch_size=4, steps=2, lr=1e-4), cpu=True))
    parts = weights(loop.train(settings(world, tmp_path / "parts", accumulate=2, steps=2, lr=1e-4), cpu=True))
    for name, value in whole.items():
        assert_stepped_alike(parts[name], value, name)


def test_balanced_weights_raise_noisy_timesteps_and_average_to_one(world, tmp_path, base):
    alphas = base.noise_schedule.alphas_cumprod
    balanced = balanced_weights(alphas)
    assert balanced.mean() == pytest.approx(1.0, abs=1e-5)
    assert bool((balanced.diff() >= -1e-6).all())  # never less where there is more noise
    noise, predicted, words = torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2), torch.ones(2, 77, 8)
    at = torch.tensor([10, 900])
    weighed = objective(predicted, noise, words, words, 0.0, balanced[at]).noise
    assert weighed == pytest.approx(float(balanced[at].mean()))
    assert objective(predicted, noise, words, words, 0.0).noise == 1.0
    plain = weights(loop.train(settings(world, tmp_path / "plain", steps=1), cpu=True))
    other = weights(loop.train(settings(world, tmp_path / "other", steps=1, timestep_weights="balanced"), cpu=True))
    assert not same(plain, other)


def test_gradient_checkpointing_recomputes_and_changes_nothing(world, tmp_path, monkeypatch):
    from diffusers import UNet2DConditionModel

    asked = []
    enable = UNet2DConditionModel.enable_gradient_checkpointing
    monkeypatch.setattr(UNet2DConditionModel, "enable_gradient_checkpointing", lambda unet: (asked.append(unet), enable(unet)))
    plain = weights(loop.train(settings(world, tmp_path / "plain", steps=2, lr=1e-4), cpu=True))
    assert not asked
    thrifty = weights(
        loop.train(settings(world, tmp_path / "thrifty", steps=2, lr=1e-4, gradient_checkpointing=True), cpu=True)
    )
    assert len(asked) == 1
    for name, value in plain.items():
        torch.testing.assert_close(thrifty[name], value, rtol=0, atol=2e-6, msg=name)


def test_half_precision_trains_weights_that_stay_in_full_precision(world, tmp_path):
    checkpoint = loop.train(settings(world, tmp_path / "run", steps=2, precision="bf16"), cpu=True)
    trained = weights(checkpoint)
    assert {value.dtype for value in trained.values()} == {torch.float32}
    AcceleratorState._reset_state(reset_partial_state=True)
    full = weights(loop.train(settings(world, tmp_path / "full", steps=2), cpu=True))
    moved = {name: (trained[name] - full[name]).abs().max() for name in full}
    assert 0 < max(moved.values()) < 0.01


def test_bf16_on_a_cpu_that_is_slow_in_it_is_told(world, tmp_path, monkeypatch, caplog):
    for able, told in ((True, 0), (False, 1)):
        monkeypatch.setattr(loop, "has_bf16", lambda device, able=able: able)
        AcceleratorState._reset_state(reset_partial_state=True)
        caplog.clear()
        loop.train(settings(world, tmp_path / str(able), steps=1, precision="bf16"), cpu=True)
        assert caplog.text.count("Pass --set precision=no") == told


def test_a_torch_without_onednn_counts_as_slow_in_bf16(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_bf16("cpu")
    assert has_bf16("cuda")


def test_fp16_resumes_with_the_scale_of_its_gradients(world, tmp_path, monkeypatch):
    """accelerate scales gradients on GPUs only; torch's scaler works on a CPU too."""

    class Scaling(Accelerator):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)

    with pytest.raises(ValueError, match=r"precision: fp16 needs a GPU: on cpu gradients are not scaled.*bf16 or no"):
        loop.train(settings(world, tmp_path / "none", precision="fp16"), cpu=True)
    monkeypatch.setattr(loop, "Accelerator", Scaling)

    def train(out, **options):
        AcceleratorState._reset_state(reset_partial_state=True)
        made = loop.train(settings(world, tmp_path / out, precision="fp16", lr=1e-4, ema=0.5), cpu=True, **options)
        return weights(made), weights(made, AVERAGED), state_file.read(made / run_state.STATE)["scaler"]

    whole, average, scaler = train("whole")
    *_, stopped = train("parts", stop_after=2)
    resumed, resumed_average, resumed_scaler = train("parts", resume=True)
    assert (stopped["scale"], scaler["scale"]) == (1024.0 * 2**2, 1024.0 * 2**4)
    assert resumed_scaler == scaler
    assert same(whole, resumed)
    assert same(average, resumed_average)
