"""Training an MIP-Adapter on a tiny Stable Diffusion XL: what a sample is, what a step changes, and that runs go on and spread out."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from support import sdxl_folder
from support.golden import relative_error

from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.mip import formats
from ssr_core.mini import files
from ssr_core.training import cache, loop, optimizers, run_state, subject_dataset
from ssr_core.training.config import ValidationPicture, ValidationThing
from ssr_core.training.examples import Examples, PictureReader, choose, collate
from ssr_core.training.frozen import Frozen
from ssr_core.training.method import Choice
from ssr_core.training.methods import read_config
from ssr_core.training.mip import MIP, Dropped, MIPConfig

PACK = Path(__file__).parents[2]
ADAPTER = loop.trained_file(MIP)
FIELDS = {"steps": 2, "batch_size": 1, "size": sdxl_folder.SIDE, "workers": 0, "save_every": 2, "drop_prompt": 0.2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny SDXL, an adapter for it, and data."""
    folder = tmp_path_factory.mktemp("xl")
    sdxl_folder.scenes(folder / "data")
    sdxl_folder.adapter_file(folder / "adapter.safetensors")
    return folder, sdxl_folder.folders(folder)


@pytest.fixture(scope="module")
def base(world):
    return load_base(str(world[1].model), str(world[1].vision))


@pytest.fixture
def settings(world):
    folder, xl = world

    def made(out="unused", **changes):
        own = {"data": str(folder / "data"), "start_from": (str(folder / "adapter.safetensors"),)}
        return MIPConfig(**{**FIELDS, **xl.named, **own, "out": str(out), **changes})

    return made


@pytest.fixture
def method(base, settings):
    return lambda **changes: MIP(settings(**changes), Frozen(base, torch.device("cpu"), "loaded"))


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


def weights(checkpoint, name=ADAPTER):
    return load_file(checkpoint / name)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def examples(method):
    source = method.inputs.source()
    return Examples(source, method.inputs, PictureReader(source, method.inputs))


def moved_alike(found, expected, start):
    """Whether two runs changed the weights alike: the change's relative error over all of them."""
    assert found.keys() == expected.keys()
    own, theirs = (torch.cat([(state[name] - start[name]).flatten() for name in start]) for state in (found, expected))
    assert relative_error(own, theirs) < 1e-2


def test_a_run_that_was_stopped_and_resumed_has_the_same_bits(settings, tmp_path):
    changes = {"steps": 3, "ema": 0.9, "clip_norm": 1.0, "accumulate": 2}
    whole = loop.train(settings(tmp_path / "whole", **changes), cpu=True)
    broken = settings(tmp_path / "broken", **changes)
    loop.train(broken, cpu=True, stop_after=1)
    resumed = loop.train(broken, resume=True, cpu=True)
    for name in (ADAPTER, loop.trained_file(MIP, averaged=True)):
        assert same(weights(whole, name), weights(resumed, name))


def test_a_checkpoint_is_an_adapter_whose_projector_is_the_one_it_began_with(world, settings, tmp_path):
    own = settings(tmp_path / "run", steps=1)
    checkpoint = loop.train(own, cpu=True)
    formats.load(checkpoint / ADAPTER)
    assert read_config(checkpoint / "config.yaml") == own
    before, after = weights(world[0], "adapter.safetensors"), weights(checkpoint)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("layers.")}


def test_gates_of_a_plain_ip_adapter_start_at_random_and_learned_ones_stay(world, method, tmp_path):
    plain = sdxl_folder.adapter_file(tmp_path / "plain.safetensors", gated=False)
    for layer in method(start_from=(str(plain),)).adapter.layers:
        assert 0.5 < layer.gate.abs().max() * layer.gate.numel() ** 0.5 <= 1
    kept = weights(world[0], "adapter.safetensors")
    assert torch.equal(method().adapter.layers[3].gate, kept["layers.3.gate"])


def test_every_trained_weight_gets_a_gradient_and_nothing_else_does(method):
    trained = method(train_projector=True, drop_prompt=0.0, drop_objects=0.0, drop_both=0.0)
    found = examples(trained)
    batch = trained.encode(trained.frozen.encode(collate([found[0], found[1]])))
    with trained.loss(trained.module, batch, nullcontext) as losses:
        losses["total"].backward()
    assert any(name.startswith("projector.") for name, _ in trained.module.named_parameters())
    assert all(value.grad is not None and bool(value.grad.any()) for value in trained.module.parameters())
    assert all(value.grad is None for model in trained.frozen.base.models for value in model.parameters())


def test_prompt_and_objects_are_dropped_one_at_a_time_or_together(method):
    trained = method(drop_prompt=0.2, drop_objects=0.1, drop_both=0.3)
    record = trained.inputs.source().records[0]
    counts = Counter()
    for number in range(2000):
        choice = choose(record, trained.inputs, str(number))
        alone = not choice.prompt
        counts[alone or choice.chosen.prompt, not alone and choice.chosen.objects] += 1
    shares = {what: count / 2000 for what, count in counts.items()}
    assert shares == pytest.approx({(1, 0): 0.2, (0, 1): 0.1, (1, 1): 0.3, (0, 0): 0.4}, abs=0.04)


def test_names_are_dropped_with_the_prompt_unless_told_otherwise(method):
    trained, source = method(), method().inputs.source()
    record = source.records[0]

    def read(inputs, text, **dropped):
        return inputs.read(source, record, Choice(text, False, Dropped(**{"objects": False, "prompt": False, **dropped}), 5))

    whole = read(trained.inputs, "a cat")
    assert sorted(whole["names"]) == ["cat", "chair"]
    assert bool(whole["references"].any())
    assert read(trained.inputs, "")["names"] == ["", ""]
    both = read(trained.inputs, "a cat", objects=True, prompt=True)
    assert (both["prompt"], both["names"], both["name_lengths"]) == ("", ["", ""], [1, 1])
    assert not bool(both["references"].any() or both["shown"].any())
    assert sorted(read(method(drop_names=False).inputs, "")["names"]) == ["cat", "chair"]
    encoded = trained.encode(trained.frozen.encode(collate([both])))
    null = trained.adapter(torch.zeros(1, trained.adapter.config.vision_width))[0]
    torch.testing.assert_close(encoded["objects"][0], torch.stack([null, null]))


def test_the_unet_is_told_where_the_target_was_cut(method):
    trained = method()
    batch = trained.frozen.encode(collate([examples(trained)[0]]))
    assert batch["time_ids"].tolist() == [[150, 180, 0, 15, 128, 128]]
    assert batch["pooled"].shape == (1, 64)


def test_subject_dataset_10k_is_read_as_it_is_published(method, tmp_path):
    for part in subject_dataset.PARTS:
        (tmp_path / part).mkdir()
    labels = np.zeros((100, 180), np.uint8)
    labels[10:90, 10:60], labels[10:90, 100:160] = 1, 2
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 180, 3), np.uint8)).save(tmp_path / "images" / "sa_1.png")
    Image.fromarray(labels).save(tmp_path / "masks" / "sa_1.png")
    boxes = [{"label": "cat", "logit": 0.9, "box": [8, 8, 62, 92]}, {"label": "chair", "logit": 0.8, "box": [98, 8, 162, 92]}]
    told = {"text": "a cat sitting on a chair", "original_size": [900, 500], "final_masks": [{"value": 0}, *boxes]}
    (tmp_path / "jsons" / "sa_1.json").write_text(json.dumps(told))
    source = method(data=str(tmp_path)).inputs.source()
    assert isinstance(source, subject_dataset.SubjectFolder)
    with pytest.raises(ValueError, match="`ids` is for subject_dataset_10k"):
        method(ids="list.pkl").inputs.source()


def test_a_name_of_too_many_tokens_is_the_samples_fault(method):
    trained = method()
    record = trained.inputs.source().records[0]
    long = type(record.subjects[0])(("cat " * 30,), record.subjects[0].reference, record.subjects[0].mask)
    record = type(record)(record.name, record.texts, (long, record.subjects[1]))
    with pytest.raises(ValueError, match=r"has 30 tokens; expected 1 to 20"):
        trained.inputs.read(trained.inputs.source(), record, Choice("a cat", False, Dropped(False, False), 5))


def spread(settings, out, command, *more):
    """Two processes train; returns what they said."""
    file = out.with_suffix(".yaml")
    file.write_text(settings(out).to_yaml())
    whole = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", *command, str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(PACK), str(PACK / "tests")])}
    finished = subprocess.run(
        [*whole, *more], cwd=PACK, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def test_two_processes_take_the_steps_that_one_takes_with_twice_the_batch(world, settings, tmp_path):
    one = weights(loop.train(settings(tmp_path / "one", batch_size=2), cpu=True))
    spread(settings, tmp_path / "two", ["ssr_core.cli", "train"], "--cpu")
    start = weights(world[0], "adapter.safetensors")
    moved_alike(weights(tmp_path / "two" / "checkpoint-2"), one, start)
    parts = weights(loop.train(settings(tmp_path / "parts", accumulate=2), cpu=True))
    moved_alike(parts, one, start)


def test_fsdp_keeps_half_of_the_weights_and_moments_in_each_of_two_processes(world, settings, tmp_path):
    one = loop.train(settings(tmp_path / "one", batch_size=2), cpu=True)
    said = spread(settings, tmp_path / "two", ["support.fsdp_cpu"], "--stop-after", "1")
    count = sum(value.numel() for name, value in weights(one).items() if name.startswith("layers."))
    assert said.count(f"keeps {count // 2} {count // 2} of {count}") == 2
    spread(settings, tmp_path / "two", ["support.fsdp_cpu"], "--resume")
    moved_alike(weights(tmp_path / "two" / "checkpoint-2"), weights(one), weights(world[0], "adapter.safetensors"))


def test_gradient_checkpointing_and_half_precision_train(world, settings, tmp_path):
    start = weights(world[0], "adapter.safetensors")
    plain = weights(loop.train(settings(tmp_path / "plain"), cpu=True))
    moved_alike(weights(loop.train(settings(tmp_path / "thrifty", gradient_checkpointing=True), cpu=True)), plain, start)
    AcceleratorState._reset_state(reset_partial_state=True)
    half = weights(loop.train(settings(tmp_path / "half", precision="bf16"), cpu=True))
    assert {value.dtype for value in half.values()} == {torch.float32}
    assert not same(half, start)


def test_validation_draws_all_objects_together(world, settings, tmp_path):
    pictures = [str(world[0] / "data" / f"{number}.png") for number in range(2)]
    more = (ValidationThing(pictures[1], "chair", str(world[0] / "data" / "1_chair.png")),)
    wanted = (ValidationPicture(pictures[0], "cat", "a cat on a chair", more=more),)
    own = settings(tmp_path, steps=1, validation=wanted, validation_steps=1)
    loop.train(own, cpu=True)
    sheet = Image.open(tmp_path / "validation" / "step-000001.png")
    assert sheet.width > 3 * sdxl_folder.SIDE


def test_mini_learns_an_adapter_from_nothing(tmp_path):
    own = MIPConfig(base="mini", data="d", out=str(tmp_path), train_projector=True, projector="resampler", resampler_width=32)
    torch.manual_seed(0)
    frozen = Frozen(load_base("mini"), torch.device("cpu"), "loaded")
    trained = MIP(own, frozen)
    assert own.size == 128
    assert random.Random(0).choice(list(trained.module.parameters())).requires_grad
    attention = frozen.base.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    assert torch.equal(trained.adapter.layers[0].to_k.weight, attention.to_k.weight)


def test_minis_adapter_is_small():
    """As its configuration file says, in half precision."""
    own = read_config(files.FOLDER.parent / "mip.yaml")
    trained = MIP(own, Frozen(load_base("mini"), torch.device("cpu"), "loaded"))
    assert 2 * sum(value.numel() for value in trained.adapter.state_dict().values()) < 600_000
    assert any(value.requires_grad for value in trained.adapter.projector.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": ()}, "start_from must name an adapter's file, since the projector is not trained"),
        ({"start_from": ("a", "b")}, "start_from must name one file"),
        ({"drop_prompt": 0.9, "drop_both": 0.2}, "their sum must be at most 1, is 1.15"),
        ({"optimizer": "sgd"}, "optimizer"),
    ],
)
def test_a_configuration_that_says_two_things_is_refused(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_eight_bits_need_their_library_and_keep_a_state_that_is_known_again(settings, monkeypatch):
    """bitsandbytes keeps what is not to be cast in a dictionary of its own."""
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ValueError, match=r"needs bitsandbytes .*ssr-encoder\[8bit\]"):
        optimizers.made(settings(optimizer="adamw8bit"), [], torch.device("cuda"))
    parameter = torch.zeros(4, 3)
    moments = {name: torch.zeros(12, dtype=torch.uint8) for name in ("state1", "state2")}
    assert run_state._fits_eight_bit({"step": 3, "quantised": moments}, parameter)
    assert run_state._fits_eight_bit({"step": 3, **moments}, parameter)
    assert not run_state._fits_eight_bit({"step": 3, "exp_avg": parameter}, parameter)


def test_what_cannot_be_is_told_before_the_first_step(settings, method, base, tmp_path):
    with pytest.raises(ValueError, match=r"`optimizer: adamw8bit` runs on CUDA; this run is on cpu"):
        loop.train(settings(tmp_path / "run", optimizer="adamw8bit"), cpu=True)
    trained = method()
    with pytest.raises(ValueError, match=r"`cache` is not for method mip"):
        cache.cached_reader(tmp_path / "cache", trained.inputs.source(), trained)
    with pytest.raises(ValueError, match="The object has no name"):
        method(validation=(ValidationPicture("a.png", "", "a cat"),))
    plus = sdxl_folder.adapter_file(tmp_path / "plus.safetensors", "pipeline_sdxl_plus")
    state = load_file(plus)
    wrong = formats.read(plus)
    narrow = formats.Weights(
        type(wrong.config)(wrong.config.layout, 96, 40, wrong.config.tokens, wrong.config.resampler), state, wrong.fingerprint
    )
    narrow.state["projector.proj_in.weight"] = torch.zeros(wrong.config.resampler.width, 40)
    formats.write(narrow, tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match="of width 40"):
        method(start_from=(str(tmp_path / "narrow.safetensors"),))
