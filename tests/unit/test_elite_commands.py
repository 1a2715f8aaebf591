"""`ssr-encoder generate`, `evaluate` and `convert` with ELITE, on a tiny Stable Diffusion."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support import tiny_sd

from ssr_core import cli
from ssr_core.cli import drawing_elite
from ssr_core.evaluation import elite as evaluation
from ssr_core.evaluation import scorers
from ssr_core.evaluation.wording import in_words
from ssr_core.hosts.diffusers import elite
from ssr_core.hosts.diffusers import generate as pipelines
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.elite import formats


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    tiny_sd.reference(folder / "dog.png", folder / "dog_bg.png")
    tiny_sd.reference(folder / "cat.png", folder / "mask.png")
    tiny_sd.mappers(folder)
    return folder, tiny_sd.folders(folder)


def given(world):
    folder, models = world
    pair = [str(folder / f"{stage}_mapper.pt") for stage in ("global", "local")]
    return ["--model", str(models.model), "--vision-encoder", str(models.vision), "--encoder", *pair]


def generate(world, out, *more, references=("dog",), prompt="a S in the snow"):
    pictures = [str(world[0] / f"{name}.png") for name in references]
    quick = ["--steps", "1", "--size", "64x64", "--out", str(out), "--prompt", prompt]
    return cli.main(["generate", "--reference", *pictures, *given(world), *quick, *more])


@pytest.fixture
def seen(monkeypatch):
    calls = []
    sample = elite.sample

    def spy(pipe, mappers, subjects, prompts, latents, manner=1.0, **more):
        calls.append((subjects, prompts, manner, {**more, "sampler": type(pipe.scheduler).__name__}))
        return sample(pipe, mappers, subjects, prompts, latents, manner, **more)

    monkeypatch.setattr(elite, "sample", spy)
    return calls


def test_the_files_tell_the_method_and_defaults_are_the_authors(world, tmp_path, seen):
    assert generate(world, tmp_path, "--maps") == 0
    ((subjects, prompts, manner, how),) = seen
    assert (prompts, manner.strength, how["guidance"], how["sampler"]) == (
        ["a S in the snow"],
        0.8,
        5.0,
        "LMSDiscreteScheduler",
    )
    assert drawing_elite.ELITEDrawing.steps == 100
    assert 0 < subjects[0].patches.mean() < 1  # by the mask that lies beside the picture
    assert subjects[0].framing == "crop to mask"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map_1.png", "picture_00000.png"]
    reference, shown = Image.open(world[0] / "dog.png").convert("RGB"), Image.open(tmp_path / "map_1.png")
    assert shown.size == reference.size
    assert np.asarray(shown).mean() < np.asarray(reference).mean()


def test_several_references_are_a_word_each(world, tmp_path, seen):
    more = ["--name", "S", "snow", "--mask", str(world[0] / "dog_bg.png"), str(world[0] / "mask.png"), "--scale", "1", "0.5"]
    more += ["--framing", "stretch", "--words", "2", "--strength", "0.6"]
    assert generate(world, tmp_path, *more, references=("dog", "cat"), prompt="a S in the snow") == 0
    ((subjects, _, manner, how),) = seen
    assert [one.strength for one in subjects] == [1.0, 0.5]
    assert {one.framing for one in subjects} == {"stretch"}
    assert (list(how["placeholders"]), how["words"], manner.strength) == (["S", "snow"], 2, 0.6)


def test_lms_steps_as_the_authors_do_whatever_the_base_says_of_spacing(world):
    base = load_base(str(world[1].model), str(world[1].vision))
    assert base.noise_schedule.config.timestep_spacing == "leading"
    scheduler = pipelines.pipeline(base, "lms").scheduler
    scheduler.set_timesteps(100)
    torch.testing.assert_close(scheduler.timesteps.double(), torch.linspace(0, 999, 100).double().flip(0), atol=1e-3, rtol=0)
    assert float(scheduler.init_noise_sigma) == pytest.approx(14.61, abs=0.01)


@pytest.mark.parametrize(
    ("more", "references", "message"),
    [
        ((), ("dog", "cat"), 'need a word each in the prompt: give --name, as in "--name S Y"'),
        (("--query", "dog"), ("dog",), "--query is not for ELITE; leave it out. A mask marks the object"),
        (("--fit", "pad"), ("dog",), "--fit is not for ELITE; leave it out. Give --framing"),
        (("--name", "the"), ("dog",), None),
        (("--method", "ssr", "--query", "dog", "--framing", "stretch"), ("dog",), "--framing is for ELITE"),
        (("--prompt", "a dog"), ("dog",), 'does not say "S" as a word of its own'),
    ],
)
def test_the_user_reads_what_is_wrong(world, tmp_path, more, references, message, capsys):
    assert generate(world, tmp_path, *more, references=references) == (0 if message is None else 2)
    assert message is None or message in capsys.readouterr().err


def test_convert_makes_one_file_and_each_mapper_again(world, tmp_path, capsys):
    one, back = tmp_path / "elite.safetensors", tmp_path / "local_mapper.pt"
    pair = [world[0] / f"{stage}_mapper.pt" for stage in ("global", "local")]
    assert cli.main(["convert", *map(str, pair), "--out", str(one)]) == 0
    weights = formats.read(pair)
    assert formats.read([one]).fingerprint == weights.fingerprint
    assert cli.main(["convert", str(one), "--stage", "local", "--out", str(back)]) == 0
    assert weights.fingerprints["local"][:12] != weights.fingerprint[:12]
    state = torch.load(back, weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in weights.states["local"].items())
    assert cli.main(["convert", str(one), "--out", str(tmp_path / "x.pt")]) == 2
    assert "must end in .safetensors." in capsys.readouterr().err


class Scorer:
    """Stands for CLIP and DINO, and keeps the texts."""

    asked = ()

    def pictures(self, pictures):
        found = torch.stack([torch.from_numpy(np.array(one.resize((4, 4)))).float().flatten() for one in pictures])
        return torch.nn.functional.normalize(found, dim=-1)

    def texts(self, texts):
        Scorer.asked += tuple(texts)
        return torch.nn.functional.normalize(torch.ones(len(texts), 48), dim=-1)


@pytest.fixture
def concepts(tmp_path):
    folder = tmp_path / "benchmark"
    (folder / "benchmark_dataset" / "thing").mkdir(parents=True)
    (folder / "prompts.txt").write_text("the {} in the snow\n")
    for number in range(2):
        Image.new("RGB", (80, 90), (90 * number, 120, 10)).save(folder / "benchmark_dataset" / "thing" / f"{number}.png")
    told = [{"class_prompt": "owl", "instance_data_dir": "./benchmark_dataset/thing", "prompt_filename": "prompts.txt"}]
    (folder / "dataset.json").write_text(json.dumps(told))
    return folder


def test_a_benchmark_is_drawn_with_the_word_and_scored_by_its_own_prompts(world, concepts, tmp_path, monkeypatch, seen, capsys):
    monkeypatch.setattr(Scorer, "asked", ())
    for name in ("load_clip", "load_dino"):
        monkeypatch.setattr(scorers, name, lambda folder, device: Scorer())
    masks = tmp_path / "masks"
    (masks / "thing").mkdir(parents=True)
    own = ["--data", str(concepts), "--clip", "c", "--dino", "d", "--size", "64", "--steps", "1", "--per-prompt", "1"]
    command = ["evaluate", "customconcept101", "--method", "elite", *given(world), *own]
    assert cli.main([*command, "--masks", str(masks), "--out", str(tmp_path / "none")]) == 2
    assert f"There is no mask {masks / 'thing' / '0.png'}" in capsys.readouterr().err
    mask = np.zeros((90, 80), np.uint8)
    mask[20:70, 20:60] = 255
    Image.fromarray(mask).save(masks / "thing" / "0.png")
    assert cli.main([*command, "--masks", str(masks), "--out", str(tmp_path / "out")]) == 0
    ((subjects, prompts, manner, _),) = seen
    assert (prompts, manner.strength) == (["the S in the snow"], 0.8)
    assert 0 < subjects[0][0].patches.mean() < 1
    assert Scorer.asked == ("the owl in the snow",)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["protocol"]["seed"], run["protocol"]["sampler"], run["protocol"]["guidance"]) == (42, "lms", 5.0)
    assert len(run["masks"]) == 32
    assert evaluation.PROTOCOL.steps == 100


def test_a_benchmarks_names_give_way_to_words():
    words = evaluation.PLACEHOLDERS
    assert in_words("a teddy bear and an owl", ["teddy bear", "owl"], words) == "a S and a Y"
    assert in_words("a cat beside a cat", ["cat", "cat"], words) == "a S beside a Y"
    with pytest.raises(ValueError, match='does not say "owl"'):
        in_words("a cat", ["owl"], words)
    with pytest.raises(ValueError, match="at most 3"):
        in_words("a cat", ["cat"] * 4, words)


def test_what_cannot_be_measured_is_told(tmp_path, capsys):
    assert cli.main(["evaluate", "dreambench", "--method", "elite", "--data", "x", "--draw-only", "--out", str(tmp_path)]) == 2
    assert "--method elite needs ELITE's weights" in capsys.readouterr().err
    assert cli.main(["evaluate", "dreambench", "--masks", "m", "--out", str(tmp_path)]) == 2
    assert "--masks is for ELITE" in capsys.readouterr().err
