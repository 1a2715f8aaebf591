"""`evaluate selectivity --method lasr` on SSR Mini, with subjects that are learned in a step or two."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core.cli import main
from ssr_core.evaluation import drawn, lasr_tables, rows
from ssr_core.evaluation import selectivity as world
from ssr_core.evaluation.compared_cases import LearnedCases
from ssr_core.evaluation.drawer import Sampling
from ssr_core.evaluation.learned import InversionDrawer, LASRDrawer, Lessons, Taught
from ssr_core.hosts.diffusers.learning import BaseModels
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.lasr import learning, subject_file, views
from ssr_core.methods.lasr.recipe import Recipe
from ssr_core.mini import files


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Runs it with two cases a row, of two instances; `.ran` lists drawer, setting and number of learning steps before each row."""
    monkeypatch.setattr(views, "SCALES", ())
    monkeypatch.setattr(lasr_tables, "LearnedCases", partial(LearnedCases, prompts=1))
    steps, ran = [], []
    advance = learning.Learning.advance

    def counted(self):
        steps.append(self.recipe.words)
        return advance(self)

    def quick(drawer, wanted, setting):
        before = len(steps)
        outcomes = world.run(drawer, wanted, replace(setting, steps=1))
        ran.append((type(drawer).__name__, setting.strength, len(steps) - before))
        return outcomes

    monkeypatch.setattr(learning.Learning, "advance", counted)
    monkeypatch.setattr(drawn, "run", quick)

    def run(*more):
        ran.clear()
        given = ["--method", "lasr", "--learning-steps", "2", "--count", "2", "--out", str(tmp_path), *more]
        return main(["evaluate", "selectivity", *given]), list(ran)

    return run


def test_each_instance_is_learned_once_from_the_word_of_its_class_and_drawn_by_each_part(evaluate, tmp_path, capsys):
    code, ran = evaluate("--rows", "look")
    assert code == 0
    assert ran == [
        ("SSRDrawer", 0.0, 0), ("TimedLASR", 0.0, 4), ("TimedLASR", 1.0, 0), ("TimedLASR", 0.5, 0), ("TimedInversion", 1.0, 4),
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "look-textual-inversion: look " in said
    found = json.loads((tmp_path / "selectivity.json").read_text())["look"]
    assert found["LASR, both"]["seconds"] > 0
    assert "seconds" not in found["no subject: the class's name in the prompt"]
    assert evaluate("--rows", "edit-both") == (0, [("TimedLASR", 0.5, 0)])
    assert set(json.loads((tmp_path / "selectivity.json").read_text())) == {"method", "look", "edit"}


def test_subjects_learned_otherwise_are_not_taken_for_these(evaluate, capsys):
    assert evaluate("--rows", "look-both")[0] == 0
    capsys.readouterr()
    assert evaluate("--rows", "look-both", "--learning-steps", "1")[0] == 2
    assert "of other weights, cases or settings" in capsys.readouterr().err
    assert evaluate("--rows", "look-both", "--learning-steps", "1", "--force")[0] == 2
    assert "was learned otherwise" in capsys.readouterr().err


def test_rows_have_names_and_titles_of_their_own():
    described = lasr_tables.rows()
    titles = [(row.table, row.title) for row in described.values()]
    assert len(set(titles)) == len(titles)
    assert rows.chosen(described, ["*-static"]) == ["look-static", "edit-static"]


def test_what_is_no_method_or_option_of_these_tables_is_refused(evaluate, tmp_path, capsys):
    assert main(["evaluate", "selectivity", "--method", "textual-inversion", "--out", str(tmp_path / "out")]) == 2
    assert "is a row of the tables of --method lasr" in capsys.readouterr().err
    assert evaluate("--words", "words.json") == (2, [])
    assert "--words is for benchmarks on photographs" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lasr", "textual-inversion"])
def test_prompts_of_one_subject_are_drawn_together_and_each_picture_is_what_it_is_alone(kind, tmp_path):
    base = load_base(files.MINI)
    models = BaseModels(base, files.MINI, torch.device("cpu"), False)
    lessons = Lessons(Recipe("", steps=1), 128, tmp_path, tmp_path, {})
    if kind == "lasr":
        drawer, made = LASRDrawer(base, models, lessons), subject_file.load(files.FOLDER / "lasr_star.safetensors")
    else:
        drawer, made = InversionDrawer(base, models, lessons), models.table[1]
    picture = Image.new("RGB", (128, 128))
    star, other = Taught(made, "star-1", "star", picture), Taught(made, "star-2", "star", picture)
    own, prompts = [[star], [star], [other]], ["a star on a beach", "a star in the snow", "a star"]
    sampling, batches, sample = Sampling(128, 2, 4.0, 0.5), [], drawer.sample
    drawer.sample = lambda pipe, made, texts, *more: batches.append(len(texts)) or sample(pipe, made, texts, *more)
    together = drawer.draw(own, prompts, [7, 8, 9], sampling)
    assert batches == [2, 1]
    for place in range(3):
        (alone,) = drawer.draw([own[place]], [prompts[place]], [7 + place], sampling)
        assert np.abs(np.asarray(alone, dtype=int) - np.asarray(together[place], dtype=int)).max() <= 2
