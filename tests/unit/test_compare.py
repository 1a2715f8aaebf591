"""`evaluate compare` on SSR Mini with one instance, one prompt and two steps: fresh MIP and ELITE weights, subjects learned in one step."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from support import fresh_mini

from ssr_core.cli import main
from ssr_core.evaluation import compare, compared_costs, drawn, rows
from ssr_core.evaluation import selectivity as world
from ssr_core.evaluation.compared_cases import SITUATIONS, ComparedCases, pairs
from ssr_core.evaluation.intervals import bootstrap, interval
from ssr_core.evaluation.selectivity import scores
from ssr_core.methods.lasr import views
from ssr_core.mini import files

OPERATIONS, MEMORY = compared_costs.operations, compared_costs.memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fresh_mini.write(tmp_path_factory.mktemp("fresh"))


@pytest.fixture
def evaluate(monkeypatch, tmp_path, folder):
    """Runs it; returns the exit code and (drawer, setting, cases) of every row that was measured."""
    monkeypatch.setattr(views, "SCALES", ())
    monkeypatch.setattr(compare, "CHOOSING", 1)
    monkeypatch.setattr(compare, "CHOOSING_PROMPTS", 1)
    monkeypatch.setattr(compared_costs, "TIMES", 1)
    # Counting takes as long as drawing; the tests that look at costs count.
    monkeypatch.setattr(compared_costs, "operations", lambda *given: 1)
    monkeypatch.setattr(compared_costs, "memory", lambda *given: 1)
    for name, method in compare.METHODS.items():
        monkeypatch.setitem(compare.METHODS, name, replace(method, strengths=method.strengths[1:3]))
    ran = []

    def quick(drawer, wanted, setting):
        outcomes = world.run(drawer, wanted, replace(setting, steps=2))
        ran.append((type(drawer).__name__, setting, wanted))
        return outcomes

    monkeypatch.setattr(drawn, "run", quick)
    given = [f"mip={folder / 'mip.safetensors'}", *(f"elite={folder / stage}.safetensors" for stage in ("global", "local"))]

    def run(*more, weights=given):
        ran.clear()
        own = ["--weights", *weights] if weights else []
        sizes = ["--instances", "1", "--prompts", "1", "--learning-steps", "1", "--out", str(tmp_path)]
        return main(["evaluate", "compare", *sizes, *own, *more]), list(ran)

    return run


def read(folder):
    return json.loads((folder / "compare.json").read_text())


def test_a_method_is_judged_at_the_strength_that_did_best_on_other_instances(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compared_costs, "operations", OPERATIONS)
    monkeypatch.setattr(compared_costs, "memory", MEMORY)
    looks = iter([0.2, 0.9, 0.6])

    def rated(outcomes, bounds):
        return replace(scores(outcomes, bounds), look=next(looks), prompt=0.5)

    monkeypatch.setattr(drawn, "scores", rated)
    code, ran = evaluate("--rows", "among-mip")
    assert code == 0
    assert [setting.strength for _, setting, _ in ran] == [0.75, 1.0, 1.0]
    tried, judged = ran[0][2], ran[-1][2]
    assert tried == ran[1][2]
    assert {case.wanted[0].scene.things[0].instance for case in tried}.isdisjoint(
        {case.wanted[0].scene.things[0].instance for case in judged}
    )
    found = read(tmp_path)
    row = found["among"]["MIP-Adapter, mask and name"]
    assert (row["strength"], row["setting"]["strength"], row["instances"]) == (1.0, 1.0, 1)
    assert {"look", "look_strict", "colours", "prompt", "all_drawn", "operations", "memory", "seconds", "size"} <= row.keys()
    assert 0 < row["operations"] < 0.5
    assert 0 < row["memory"] < 2**20
    assert set(found["strength"]) == {"MIP-Adapter, mask and name, 0.75", "MIP-Adapter, mask and name, 1"}
    assert "among-mip: look 60 %" in capsys.readouterr().out
    assert (tmp_path / "look_and_prompt.svg").read_text().count("<polyline") == 1


def test_it_goes_on_where_it_was_stopped_and_further_rows_join(evaluate, tmp_path, monkeypatch, capsys):
    quick, drawers = drawn.run, []

    def stopped(drawer, wanted, setting):
        drawers.append(type(drawer).__name__)
        if len(drawers) == 3:
            raise KeyboardInterrupt
        return quick(drawer, wanted, setting)

    monkeypatch.setattr(drawn, "run", stopped)
    assert evaluate("--rows", "alone-no-subject", "alone-elite")[0] == 130
    monkeypatch.setattr(drawn, "run", quick)
    code, ran = evaluate("--rows", "alone-no-subject", "alone-elite")
    assert (code, [name for name, *_ in ran]) == (0, ["ELITEDrawer", "SSRDrawer"])
    before = read(tmp_path)
    assert "seconds" not in before["alone"]["no subject: the class's name in the prompt"]
    assert evaluate("--rows", "alone-elite")[1] == []
    assert [name for name, *_ in evaluate("--rows", "edit-no-subject")[1]] == ["SSRDrawer"]
    after = read(tmp_path)
    assert after["alone"] == before["alone"]
    assert after["edit"]["no subject: the class's name in the prompt"]["edit"] in (0.0, 1.0)
    capsys.readouterr()
    assert evaluate("--rows", "alone-no-subject", "--prompts", "2")[0] == 2
    assert "of other weights, cases or settings" in capsys.readouterr().err


def test_a_cell_that_cannot_be_filled_says_why_and_the_others_go_on(evaluate, tmp_path, capsys, monkeypatch):
    wanted = ["two-mip", "two-elite", "two-image-prompt", "two-no-subject", "among-lasr", "among-textual-inversion"]
    monkeypatch.setattr("ssr_core.cli.compare.files.FOLDER", _without_adapters(tmp_path / "mini"))
    code, ran = evaluate("--rows", *wanted, weights=())
    assert (code, [name for name, *_ in ran]) == (0, ["SSRDrawer"])
    found, shown, said = read(tmp_path), (tmp_path / "compare.html").read_text(), capsys.readouterr().out
    for title, part in (
        ("MIP-Adapter, mask and name", "SSR Mini has no mip_adapter.safetensors"),
        ("ELITE, mask", "no elite_global.safetensors and no elite_local.safetensors"),
        ("image prompt, the whole picture", "no place for a second"),
    ):
        assert part in found["two"][title]["reason"]
        assert part in shown
        assert part in said
    assert "is learned from 5 pictures" in found["among"]["LASR, 5 pictures"]["reason"]
    assert "is learned from 5 pictures" in found["among"]["Textual Inversion, 5 pictures"]["reason"]
    assert 'colspan="' in shown
    assert "Two subjects, each alone in a picture of its own" in shown
    # Once there are weights, numbers take the reason's place; without them again, they stay.
    assert [name for name, *_ in evaluate("--rows", "two-mip")[1]] == ["MIPDrawer"] * 3
    assert "look" in read(tmp_path)["two"]["MIP-Adapter, mask and name"]
    assert evaluate("--rows", "two-mip", weights=()) == (0, [])
    assert "look" in read(tmp_path)["two"]["MIP-Adapter, mask and name"]


def _without_adapters(folder):
    """Mini's folder as it is without the files of MIP and ELITE."""
    folder.mkdir()
    for path in files.FOLDER.glob("*.safetensors"):
        if path.name not in (files.MIP_ADAPTER, *files.ELITE):
            (folder / path.name).symlink_to(path)
    return folder


def test_subjects_that_are_learned_are_learned_once_and_drawn_in_every_situation_that_they_can_be(evaluate, tmp_path):
    code, ran = evaluate("--rows", "alone-textual-inversion", "two-textual-inversion", "edit-lasr")
    assert code == 0
    assert Counter(name for name, *_ in ran) == {"TimedInversion": 2, "TimedLASR": 3}
    learned = tmp_path / "subjects" / "textual-inversion"
    assert len(list(learned.glob("*.safetensors"))) == 2  # of the pair, one is the subject that is drawn alone
    row = read(tmp_path)["edit"]["LASR, 5 pictures"]
    assert row["seconds"] > 0
    assert row["size"] > 10_000
    assert row["edit"] in (0.0, 1.0)


def test_every_method_has_a_row_in_every_situation():
    described = compare.rows(20, 10)
    assert [row.title for row in described.values() if row.table == "two"] == [one.title for one in compare.METHODS.values()]
    titles = [(row.table, row.title) for row in described.values()]
    assert len(set(titles)) == len(titles)
    assert len(rows.chosen(described, ["*-mip"])) == len(SITUATIONS) + 1
    assert {compare._method_of(short) for short in described} == set(compare.METHODS)
    assert [described[f"{situation}-mip"].of.count for situation in SITUATIONS] == [200, 200, 100, 200]


def test_situations_show_the_same_held_out_instances_under_the_same_prompts():
    alone, among, two, edit = (ComparedCases(situation, 4, 7).cases(0) for situation in SITUATIONS)
    assert [len(one) for one in (alone, among, two, edit)] == [28, 28, 14, 28]
    more = ComparedCases("alone", 4, 7, pictures=5).cases(0)
    for case, crowded, told, several in zip(alone, among, edit, more, strict=True):
        (wanted,) = case.wanted
        instance = wanted.scene.things[0].instance
        assert instance.held_out
        assert case.prompt == crowded.prompt == several.prompt
        assert (told.wanted, told.background) == (case.wanted, case.background)
        assert f"{told.told} {instance.kind}" in told.prompt
        assert crowded.wanted[0].scene.things[crowded.wanted[0].index].instance == instance
        assert several.wanted[0].scene == wanted.scene
        shown = {scene.background for scene in (several.wanted[0].scene, *several.wanted[0].more)}
        assert case.background not in shown
        assert len(several.wanted[0].more) == 4
    assert [len(case.wanted[0].scene.things) for case in among[::7]] == [2, 3, 4, 2]
    assert [case.wanted for case in two[::7]] == [
        (alone[0].wanted[0], alone[7].wanted[0]), (alone[14].wanted[0], alone[21].wanted[0]),
    ]  # fmt: skip
    assert all(
        case.others == (other.wanted[0].scene.things[0].instance.look,)
        for case, other in zip(alone[:7], alone[7:14], strict=True)
    )


def test_no_instance_is_there_both_to_choose_on_and_to_judge():
    choosing = {instance for pair in pairs(compare.CHOOSING // 2, True) for instance in pair}
    judged = [instance for pair in pairs(30, False) for instance in pair]
    assert len(choosing) == compare.CHOOSING
    assert len(set(judged)) == len(judged) == 60
    assert choosing.isdisjoint(judged)


def test_the_bootstrap_draws_whole_instances():
    # One of four instances is always right: its number in four draws is binomial (4, 1/4), P(<= 2) = 0.949, P(<= 3) = 0.996.
    assert bootstrap([(10, 10), (0, 10), (0, 10), (0, 10)]) == (0.0, 0.75)
    # Instances that do not differ tell the share at once, and one that was tried more often counts for more.
    assert bootstrap([(3, 5)] * 4) == interval([(3, 5)] * 4)
    assert bootstrap([(5, 5)] * 20) == pytest.approx((0.839, 1.0), abs=1e-3), "20 of 20 that hit are no proof of all"
    assert bootstrap([(0, 1), (9, 9)]) == (0.0, 1.0)
    assert bootstrap([(0, 0), (1, 2)]) == interval([(1, 2)])
    with pytest.raises(ValueError, match="has no interval"):
        bootstrap([(0, 0)])


def test_prompts_of_an_instance_are_one_group_of_the_bootstrap():
    seen = []
    cases = ComparedCases("alone", 3, 4).cases(0)
    pictures = [case.wanted[0].scene.drawn.picture for case in cases]

    class Everywhere:
        def heat(self):
            return torch.ones(1, 1)

    outcomes = [world.measure(case, picture, (Everywhere(),)) for case, picture in zip(cases, pictures, strict=True)]
    scores(outcomes, lambda groups: seen.append(groups) or (0.0, 1.0))
    assert seen
    assert {len(groups) for groups in seen} == {3}
    assert {tries for groups in seen for _, tries in groups} == {4}


def test_what_is_no_weights_or_option_of_compare_is_refused(evaluate, capsys):
    for given, said in (
        (["--weights", "lasr=a.safetensors"], "--weights takes METHOD=FILE with a method of ssr, mip, elite"),
        (["--method", "mip"], "compare measures all methods"),
        (["--count", "3"], "--count is for selectivity; leave it out"),
        (["--steps", "3"], "--steps is for benchmarks on photographs"),
        (["--rows", "nothing"], 'There is no row or table "nothing"'),
    ):
        assert evaluate(*given, weights=()) == (2, [])
        assert said in capsys.readouterr().err
    assert main(["evaluate", "selectivity", "--prompts", "3"]) == 2
    assert "--prompts is for compare; leave it out" in capsys.readouterr().err


def test_a_told_colour_is_of_no_look_that_the_subject_could_be_taken_for():
    for case in ComparedCases("edit", 20, 10).cases(0):
        ((wanted,), (other,)) = case.wanted, case.others
        own = wanted.scene.things[wanted.index].instance.look
        assert case.told not in {own.first, own.second, other.first, other.second}
