"""`ssr-encoder evaluate` with methods that learn each concept first, LASR and Textual Inversion, on SSR Mini."""

import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ssr_core import cli
from ssr_core.evaluation import learned
from ssr_core.hosts.diffusers import generate
from ssr_core.methods.lasr import inversion, learning, subject_file, views
from ssr_core.mini.scene import instances, random_scene

LISTED = """Classes
subject_name,class
moon,moon
red_star,star

Prompts
prompt_list = [
'a {0} {1} with a house'.format(unique_token, class_token),
'two {0} {1}'.format(unique_token, class_token),
]

prompt_list = [
'a {0} {1}'.format(unique_token, class_token),
]
"""
NAMES = ("moon", "red_star")


@pytest.fixture(autouse=True)
def few_views(monkeypatch):
    monkeypatch.setattr(views, "SCALES", ())


def pictures(folder, count, number):
    folder.mkdir(parents=True)
    chance = random.Random(number)
    for name in range(count):
        random_scene(chance, [instances(True)[number]]).drawn.picture.save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def dreambench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dreambooth")
    for number, name in enumerate(NAMES):
        pictures(folder / "dataset" / name, 2, number)
    (folder / "prompts_and_classes.txt").write_text(LISTED)
    return folder


@pytest.fixture
def evaluate(dreambench):
    def run(out, *more, method="lasr", what="dreambench", data=dreambench):
        quick = ("--learning-steps", 2, "--steps", 1, "--per-prompt", 1, "--draw-only", "--out", out)
        command = ("evaluate", what, "--method", method, "--data", data, *quick, *more)
        return cli.main([str(one) for one in command])

    return run


@pytest.fixture
def steps(monkeypatch):
    """How many steps of learning were done, by the first word that describes the concept."""
    done = []
    advance = learning.Learning.advance

    def counted(self):
        done.append(self.recipe.words)
        return advance(self)

    monkeypatch.setattr(learning.Learning, "advance", counted)
    return done


def drawn(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted((out / "pictures").rglob("*.png"))}


def test_a_subject_is_learned_for_each_concept_once_and_its_prompts_are_drawn(evaluate, steps, tmp_path):
    assert evaluate(tmp_path / "one") == 0
    assert steps == ["moon", "moon", "star", "star"]
    whole = drawn(tmp_path / "one")
    assert len(set(whole.values())) == len(whole) == 4
    folder = tmp_path / "one" / "subjects"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["moon.safetensors", "red_star.safetensors"]
    subject = subject_file.load(folder / "red_star.safetensors")
    assert (subject.placeholder, subject.learning.words, subject.learning.step) == ("z", (("star", 2.0),), 2)
    run = json.loads((tmp_path / "one" / "run.json").read_text())
    assert (run["protocol"]["sampler"], run["protocol"]["strength"], run["protocol"]["seed"]) == ("ddim", 0.5, 42)
    assert (run["learning"]["steps"], run["learning"]["rate"], run["learning"]["words"]) == (2, 1e-3, "the class")

    steps.clear()
    (tmp_path / "one" / "pictures" / "moon" / "000_0.png").unlink()
    assert evaluate(tmp_path / "one") == 0
    assert steps == []
    assert drawn(tmp_path / "one") == whole

    assert evaluate(tmp_path / "static", "--subjects", folder, "--strength", 0) == 0
    assert steps == []
    assert drawn(tmp_path / "static").keys() == whole.keys()
    assert not set(drawn(tmp_path / "static").values()) & set(whole.values())


def test_shards_divide_concepts_and_draw_what_one_process_draws(evaluate, steps, tmp_path):
    assert evaluate(tmp_path / "one") == 0
    steps.clear()
    assert evaluate(tmp_path / "two", "--shard", "1/2") == 0
    assert steps == ["moon", "moon"]
    assert evaluate(tmp_path / "two", "--shard", "2/2") == 0
    assert steps == ["moon", "moon", "star", "star"]
    assert drawn(tmp_path / "two") == drawn(tmp_path / "one")


@pytest.mark.parametrize("method", ["lasr", "textual-inversion"])
def test_a_run_that_was_stopped_in_the_middle_of_a_concept_learns_the_same(evaluate, tmp_path, monkeypatch, method):
    assert evaluate(tmp_path / "whole", method=method) == 0
    advance = learning.Learning.advance

    def stopped(self):
        if self.step == 1:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(learning.Learning, "advance", stopped)
    assert evaluate(tmp_path / "twice", method=method) == 130
    monkeypatch.setattr(learning.Learning, "advance", advance)
    unfinished = tmp_path / "twice" / "subjects" / "unfinished" / "1_of_1" / "moon.safetensors"
    assert unfinished.is_file() == (method == "lasr")
    assert evaluate(tmp_path / "twice", method=method) == 0
    assert not unfinished.exists()
    assert drawn(tmp_path / "twice") == drawn(tmp_path / "whole")
    for name in NAMES:
        one, two = (load_file(tmp_path / run / "subjects" / f"{name}.safetensors") for run in ("whole", "twice"))
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_baseline_keeps_an_ordinary_embedding_and_draws_with_it_in_every_layer(evaluate, tmp_path, monkeypatch):
    embeds = []
    sample = generate.sample
    monkeypatch.setattr(generate, "sample", lambda *args, **more: embeds.append(more["prompt_embeds"]) or sample(*args, **more))
    assert evaluate(tmp_path, method="textual-inversion") == 0
    path = tmp_path / "subjects" / "moon.safetensors"
    with safe_open(path, framework="pt") as file:
        assert list(file.keys()) == [inversion.KEY]
        assert file.get_tensor(inversion.KEY).shape == (1, 128)
    assert len(embeds) == 4
    assert all(one.shape == (1, 77, 128) for one in embeds)
    ordinary = inversion.load(path, 128)
    inversion.save(ordinary.flip(0), path, subject_file.provenance(path))
    (tmp_path / "pictures" / "moon" / "000_0.png").unlink()
    assert evaluate(tmp_path, method="textual-inversion") == 0
    assert not torch.allclose(embeds[-1], embeds[0], atol=1e-2)
    assert json.loads((tmp_path / "run.json").read_text())["learning"]["rate"] == 5e-3


def test_two_concepts_of_a_prompt_have_a_placeholder_each(evaluate, tmp_path, monkeypatch):
    for number, name in enumerate(("one", "other")):
        pictures(tmp_path / "data" / "benchmark_dataset" / name, 1, number)
    (tmp_path / "data" / "pair.txt").write_text("a {} with a {}\n")
    described = [
        {"class_prompt": word, "instance_data_dir": f"./benchmark_dataset/{name}", "prompt_filename": "pair.txt"}
        for name, word in (("one", "moon"), ("other", "moon"))
    ]
    pair = json.dumps([[*described, {"prompt_filename_compose": "pair.txt"}]])
    (tmp_path / "data" / "dataset_multiconcept.json").write_text(pair)
    asked = []
    sample = learned.lasr.sample

    def spy(pipe, subjects, prompts, *rest, **more):
        asked.append((subjects, prompts))
        return sample(pipe, subjects, prompts, *rest, **more)

    monkeypatch.setattr(learned.lasr, "sample", spy)
    assert evaluate(tmp_path / "out", what="customconcept101-multi", data=tmp_path / "data") == 0
    ((subjects, prompts),) = asked
    assert prompts == ["a z with a y"]
    assert [one.placeholder for one in subjects] == ["z", "y"]
    assert subjects[0].fingerprint != subjects[1].fingerprint
    assert evaluate(tmp_path / "ti", what="customconcept101-multi", data=tmp_path / "data", method="textual-inversion") == 0


def test_words_may_be_told_for_a_concept(evaluate, steps, tmp_path, capsys):
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"red_star": {"words": "red star", "weights": [1, 2], "class_word": "star"}}))
    assert evaluate(tmp_path / "out", "--words", words) == 0
    assert steps == ["moon", "moon", "red star", "red star"]
    assert subject_file.load(tmp_path / "out" / "subjects" / "red_star.safetensors").learning.words == (
        ("red", 1.0),
        ("star", 2.0),
    )
    words.write_text(json.dumps({"red_star": {"words": "red star", "weights": [1]}}))
    assert evaluate(tmp_path / "other", "--words", words) == 2
    assert "red_star: 1 weights for 2 words" in capsys.readouterr().err
    words.write_text('{"red_star": "star"}')
    assert evaluate(tmp_path / "other", "--words", words) == 2
    assert "does not tell words" in capsys.readouterr().err
    assert steps == ["moon", "moon", "red star", "red star"]  # told before anything is learned


def test_what_was_learned_otherwise_is_not_taken(evaluate, tmp_path, capsys):
    assert evaluate(tmp_path / "one") == 0
    kept = ("--subjects", tmp_path / "one" / "subjects")
    assert evaluate(tmp_path / "two", *kept, "--learning-steps", 3) == 2
    assert "was learned otherwise (another recipe). Give another --subjects" in capsys.readouterr().err
    assert evaluate(tmp_path / "three", *kept, method="textual-inversion") == 2
    assert "was learned otherwise (another recipe)" in capsys.readouterr().err
    assert evaluate(tmp_path / "one", "--learning-steps", 3) == 2
    assert "holds pictures of another run" in capsys.readouterr().err


def test_an_embedding_of_another_width_is_refused_by_name(tmp_path):
    inversion.save(torch.zeros(768), tmp_path / "cat.safetensors")
    with pytest.raises(ValueError, match=r"cat\.safetensors is a textual inversion .* of one token of width 128"):
        inversion.load(tmp_path / "cat.safetensors", 128)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--encoder", "x"), "lasr has no encoder; what it learns is in --subjects"),
        (("--strength", 1.5), "alpha (the share of the adaptive context)"),
        (("--masks", "m"), "--masks is for ELITE"),
        (("--method", "textual-inversion", "--strength", 1), "--strength is not for textual-inversion"),
        (("--size", 1024), "SSR Mini does not know pictures of 1024x1024"),
    ],
)
def test_the_user_reads_what_is_wrong(evaluate, tmp_path, capsys, more, message):
    assert evaluate(tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("option", [("--learning-steps", "3"), ("--gradient-checkpointing",), ("--words", "w.json")])
def test_options_of_learning_are_refused_where_nothing_is_learned(dreambench, tmp_path, capsys, option):
    command = ["evaluate", "dreambench", "--data", str(dreambench), "--draw-only", "--out", str(tmp_path), *option]
    assert cli.main(command) == 2
    assert f"{option[0]} is for lasr and textual-inversion; leave it out" in capsys.readouterr().err
