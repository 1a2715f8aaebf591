"""Training ELITE on the built-in models: what a sample is, what a step changes, and that runs go on from where they stood."""

import os
import random
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from support.golden import relative_error

from ssr_core import cli
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.elite import formats
from ssr_core.pretrain.dataset import write
from ssr_core.prompt import named_by
from ssr_core.training import elite_views, loop
from ssr_core.training.config import ValidationPicture
from ssr_core.training.elite import ELITE
from ssr_core.training.elite_captions import TEMPLATES, caption, filled, fits, in_view
from ssr_core.training.elite_config import EliteTrainingConfig
from ssr_core.training.examples import Examples, PictureReader, choose, collate
from ssr_core.training.frozen import Frozen
from ssr_core.training.methods import read_config
from ssr_core.training.records import Record, SubjectSource

PACK = Path(__file__).parents[2]
MINI = PACK / "ssr_core" / "mini"
MAPPER = loop.trained_file(ELITE)
FIELDS = {
    "base": "mini", "hidden_width": 16, "steps": 3, "batch_size": 2, "accumulate": 1, "lr": 1e-3, "workers": 0, "drop_prompt": 0.3,
    "save_every": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write(folder, families=4, seed=0, processes=1)
    return folder


@pytest.fixture(scope="module")
def base():
    return load_base("mini")


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def settings(world):
    return lambda out="unused", **changes: EliteTrainingConfig(**{**FIELDS, "data": str(world), "out": str(out), **changes})


@pytest.fixture(scope="module")
def words(world, tmp_path_factory):
    """A global mapper that was trained for a step."""
    AcceleratorState._reset_state(reset_partial_state=True)
    out = tmp_path_factory.mktemp("global")
    own = EliteTrainingConfig(**{**FIELDS, "steps": 1, "data": str(world), "out": str(out / "run")})
    return loop.train(own, cpu=True) / MAPPER


@pytest.fixture
def method(base, settings):
    return lambda **changes: ELITE(settings(**changes), Frozen(base, torch.device("cpu"), "loaded"))


def examples(method):
    source = method.inputs.source()
    return Examples(source, method.inputs, PictureReader(source, method.inputs))


def weights(checkpoint, name=MAPPER):
    return load_file(checkpoint / name)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def alike(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        for name, value in first.items()
    )


@pytest.mark.parametrize("stage", ["global", "local"])
def test_a_run_that_was_stopped_and_resumed_has_the_same_bits(settings, words, tmp_path, stage):
    changes = {"stage": stage, "ema": 0.9, "accumulate": 2, "start_from": (str(words),)}
    whole = loop.train(settings(tmp_path / "whole", **changes), cpu=True)
    broken = settings(tmp_path / "broken", **changes)
    loop.train(broken, cpu=True, stop_after=1)
    resumed = loop.train(broken, resume=True, cpu=True)
    for name in (MAPPER, loop.trained_file(ELITE, averaged=True)):
        assert same(weights(whole, name), weights(resumed, name))


def test_the_local_stage_keeps_the_global_mapper_and_its_checkpoint_holds_both(settings, words, tmp_path):
    own = settings(tmp_path / "run", stage="local", steps=1, start_from=(str(words),))
    checkpoint = loop.train(own, cpu=True)
    made = formats.load([checkpoint / MAPPER])
    assert made.local_mapper is not None
    before, after = load_file(words), weights(checkpoint)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert read_config(checkpoint / "config.yaml") == own


def test_validation_draws_the_subject_under_a_prompt_that_says_it(world, settings, words, tmp_path):
    reference = str(sorted((world / "references").iterdir())[0])
    mask = str(sorted((world / "masks").iterdir())[0])
    wanted = ValidationPicture(reference, "", "a S in the white snow", mask)
    for stage in ("global", "local"):
        AcceleratorState._reset_state(reset_partial_state=True)
        own = settings(
            tmp_path / stage, stage=stage, steps=1, start_from=(str(words),), validation=(wanted,), validation_steps=1
        )
        loop.train(own, cpu=True)
        assert (tmp_path / stage / "validation" / "step-000001.png").is_file()


@pytest.mark.parametrize("stage", ["global", "local"])
def test_two_processes_take_the_steps_that_one_takes_with_twice_the_batch(settings, words, tmp_path, stage):
    changes = {"stage": stage, "start_from": (str(words),), "steps": 2, "save_every": 2}
    one = weights(loop.train(settings(tmp_path / "one", **changes), cpu=True))
    file = tmp_path / "two.yaml"
    file.write_text(settings(tmp_path / "two", batch_size=1, **changes).to_yaml())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run(
        [*command, "-m", "ssr_core.cli", "train", str(file), "--cpu"],
        cwd=PACK,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACK)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "at 2 samples a step" in finished.stderr
    two, start = weights(tmp_path / "two" / "checkpoint-2"), settings(tmp_path / "start", **{**changes, "steps": 1, "lr": 0.0})
    AcceleratorState._reset_state(reset_partial_state=True)
    before = weights(loop.train(start, cpu=True))
    own, theirs = (torch.cat([(state[name] - before[name]).flatten() for name in before]) for state in (two, one))
    assert bool(theirs.any())
    assert relative_error(own, theirs) < 1e-2


@pytest.mark.parametrize("stage", ["global", "local"])
def test_every_trained_weight_gets_a_gradient_also_beside_a_dropped_prompt(method, words, stage):
    trained = method(stage=stage, start_from=(str(words),), drop_prompt=0.0)
    found = [examples(trained)[number] for number in range(2)]
    found[1]["text"] = ""
    batch = trained.encode(trained.frozen.encode(collate(found)))
    unet = trained.frozen.base.unet
    before = dict(unet.named_parameters())
    with trained.loss(trained.module, batch, nullcontext) as losses:
        losses["total"].backward()
    assert all(value.grad is not None and bool(value.grad.any()) for value in trained.module.parameters())
    assert all(value.grad is None for model in trained.frozen.base.models for value in model.parameters())
    after = dict(unet.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_a_unet_in_half_precision_passes_gradients_to_the_text_projections(settings):
    base = load_base("mini")
    base.unet.to(torch.bfloat16)
    base.text_encoder.to(torch.bfloat16)
    trained = ELITE(settings(drop_prompt=0.0), Frozen(base, torch.device("cpu"), ""))
    batch = trained.encode(trained.frozen.encode(collate([examples(trained)[0]])))
    with trained.loss(trained.module, batch, lambda: torch.autocast("cpu", torch.bfloat16)) as losses:
        losses["total"].backward()
    for own in trained.elite.global_mapper.matrices():
        assert bool(own.key.grad.any() and own.value.grad.any())


def test_a_dropped_sample_has_the_encoding_of_nothing_and_no_local_tokens(method, words):
    trained = method(stage="local", start_from=(str(words),))
    found = {**examples(trained)[0], "text": ""}
    batch = trained.encode(trained.frozen.encode(collate([found])))
    assert torch.equal(batch["prompt_embeds"], trained.frozen.embed([""]))
    assert batch["places"] == [()]


def test_samples_follow_from_the_seed_alone(method, words):
    trained = method(stage="local", start_from=(str(words),))
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = examples(trained)[3]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    random.seed(2)
    assert alike(first, examples(trained)[3])
    other = ELITE(trained.config.__class__(**{**trained.config.__dict__, "seed": 1}), trained.frozen)
    assert not alike(first, examples(other)[3])


def test_captions_say_the_word_where_they_named_the_object(method):
    trained = method(drop_prompt=0.0)
    source = trained.inputs.source()
    texts = {examples(trained)[number]["text"] for number in range(8)}
    assert all(" S" in text for text in texts)
    record = Record("x.png", ("a cup and an apple in a pink room",), (SubjectSource(("apple",)),))
    assert named_by(record.texts[0], ("apple",), "S") == "a cup and a S in a pink room"
    assert named_by("a cupboard", ("cup",), "S") is None
    assert named_by("a red S", ("cup",), "S") == "a red S"
    assert len(source.records) > 4


def test_a_view_takes_the_place_of_the_first_article():
    assert in_view("the photo of a S", "close up") == "close up photo of a S"
    assert in_view("a photo of my S", "a far away") == "a far away photo of my S"
    assert in_view("a S", "") == "a S"
    assert len(set(TEMPLATES)) == 27


def test_a_caption_that_the_text_encoder_would_cut_or_misread_gives_way_to_a_template(base):
    rng = random.Random(0)

    def of(own, words=5):
        return caption(own, "", ("a picture of a {}",), rng, base.tokenizer, words, 77)

    assert of("a S in the snow") == "a S in the snow"
    assert of("a cup " * 36 + "and a S") == "a picture of a S"
    assert of("a s and a S") == "a picture of a S"  # the text encoder knows no capitals
    assert of(None) == "a picture of a S"
    long = "a " * 74 + "S"
    assert fits(base.tokenizer, long, 1, 77)
    assert not fits(base.tokenizer, long, 2, 77)
    assert filled("a {} here") == "a S here"


def test_an_object_and_its_mask_move_together():
    mask = np.zeros((224, 224), np.uint8)
    mask[60:150, 80:170] = 255
    picture = Image.fromarray(np.repeat(mask[..., None], 3, axis=2))
    for seed in range(12):
        shown, shape = elite_views.moved(picture, Image.fromarray(mask), seed)
        agree = (np.asarray(shown)[..., 0] > 127) == (np.asarray(shape) > 127)
        assert agree.mean() > 0.985
    assert len({elite_views.moved(picture, Image.fromarray(mask), seed)[1].tobytes() for seed in range(12)}) > 4


def test_a_small_target_counts_where_it_is_and_says_so():
    picture = Image.new("RGB", (90, 60), (255, 255, 255))
    views = set()
    for seed in range(40):
        target = elite_views.scaled(picture, 128, random.Random(seed))
        assert target.pixels.shape == (3, 128, 128)
        assert target.counts.shape == (1, 16, 16)
        views.add(target.view)
        if target.view in ("a far away", "very small"):
            cells = target.pixels[0].unflatten(0, (16, 8)).unflatten(2, (16, 8)).amin((1, 3))
            assert bool((cells[target.counts[0] == 1] == 1).all())
            assert 0 < target.counts.mean() < 0.4
            assert bool((target.pixels == 0).any())
        else:
            assert bool((target.counts == 1).all() and (target.pixels == 1).all())
    assert views == {"a far away", "very small", "zoomed in", "close up", ""}


def test_a_record_with_another_reference_draws_its_whole_picture(method, words):
    trained = method(stage="local", start_from=(str(words),), drop_prompt=0.0, augment=False)
    source = trained.inputs.source()
    record = source.records[0]
    choice = choose(record, trained.inputs, "0")
    example = trained.inputs.read(source, record, choice)
    target = torch.from_numpy(np.array(source.open(record.name).convert("RGB"))).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(example["pixels"], target)
    assert bool((example["counts"] == 1).all())
    assert 0 < example["patches"].mean() < 1
    alone = Record(record.name, record.texts, (SubjectSource(("cup",)),))
    with pytest.raises(ValueError, match="has no mask, from which the local stage learns"):
        trained.inputs.read(source, alone, choose(alone, trained.inputs, "0"))


def test_the_learning_rate_is_told_beside_the_authors(settings, tmp_path, capfd):
    of_global, of_local = EliteTrainingConfig(base="x", data="", out=""), settings(stage="local", start_from=("x",))
    assert (of_global.lr, of_global.batch_size * of_global.accumulate) == (6.4e-5, 64)
    assert EliteTrainingConfig(base="x", data="", out="", stage="local", start_from=("x",)).lr == 3.2e-4
    assert "csyxwei/ELITE takes 1e-06 a sample, 6.4e-05 for as many (6.4e-05 for 64)" in of_global.told_rate(64)
    assert of_local.told_rate(32).startswith(
        "learning rate 0.001 at 32 samples a step; csyxwei/ELITE takes 1e-05 a sample, 0.00032"
    )
    loop.train(settings(tmp_path / "run", steps=1), cpu=True)
    assert "learning rate 0.001 at 2 samples a step" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "both"}, "stage"),
        ({"stage": "local"}, "start_from must name the global mapper's file"),
        ({"templates": ("a picture",)}, "must each have {} once"),
        ({"scaling": "mean"}, "scaling"),
        ({"start_from": ("a", "b", "c")}, "one file or two"),
        ({"split": "../x"}, "split"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": ("a pictureof{}",)}, "does not know"),
        ({"templates": ("a s of a {}",)}, "does not say the subject's word once"),
        ({"validation": (ValidationPicture("a.png", "", "a cup"),)}, 'does not say the subject\'s word, "S"'),
        ({"zoom": True, "stage": "local"}, "does not know"),
        ({"vision_layers": (7,)}, "at least 7 layers"),
    ],
)
def test_what_cannot_be_is_told_before_the_first_step(method, words, changes, message):
    with pytest.raises(ValueError, match=message):
        method(**{"start_from": (str(words),) if changes.get("stage") == "local" else (), **changes})


def test_minis_two_files_train_one_after_the_other_and_are_small_together(world, tmp_path, monkeypatch):
    """With all that they say but steps and size of a batch."""
    monkeypatch.chdir(tmp_path)
    quick = {"data": str(world), "steps": 2, "batch_size": 2, "workers": 0}
    words = loop.train(read_config(MINI / "elite_global.yaml", quick), cpu=True)
    averaged = words / loop.trained_file(ELITE, averaged=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    local = read_config(MINI / "elite_local.yaml", {**quick, "start_from": str(averaged)})
    both = loop.train(local, cpu=True) / loop.trained_file(ELITE, averaged=True)
    size = 0
    for stage in ("global", "local"):
        out = tmp_path / f"elite_{stage}.safetensors"
        assert cli.main(["convert", str(both), "--stage", stage, "--dtype", "fp16", "--out", str(out)]) == 0
        size += out.stat().st_size
    assert size < 3_000_000
    made = formats.load([tmp_path / "elite_global.safetensors", tmp_path / "elite_local.safetensors"])
    assert (made.config.hidden_width, made.config.vision_layers) == (128, (6, 1, 2, 3, 4))
