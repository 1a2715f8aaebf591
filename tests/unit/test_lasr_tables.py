"""`evaluate selectivity --method lasr` on SSR Mini, with subjects that are learned in a step or two."""

import json
from dataclasses import replace
from functools import partial

import pytest

from ssr_core.cli import main
from ssr_core.evaluation import drawn, lasr_tables, rows
from ssr_core.evaluation import selectivity as world
from ssr_core.evaluation.compared_cases import LearnedCases
from ssr_core.methods.lasr import learning, views


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
