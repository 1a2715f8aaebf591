"""`evaluate selectivity` of MIP-Adapter and ELITE in the drawn world, with fresh weights, and the intervals of its shares."""

import json
from dataclasses import replace

import pytest
import torch
from support import fresh_mini

from ssr_core.cli import main, selectivity
from ssr_core.evaluation import drawn, elite_tables, mip_tables, rows
from ssr_core.evaluation import selectivity as world
from ssr_core.evaluation.compared_cases import ComparedCases, LearnedCases
from ssr_core.evaluation.intervals import interval
from ssr_core.evaluation.selectivity import Case, Wanted, cases, measure, scores
from ssr_core.mini import files
from ssr_core.mini.looks import COLOURS, Look
from ssr_core.mini.scene import Instance, Placed, Scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fresh_mini.write(tmp_path_factory.mktemp("fresh"))


@pytest.fixture
def ran(monkeypatch):
    """One step a picture; lists (drawer, cases, setting, selections) of every row that was measured."""
    found = []

    def counted(drawer, wanted, setting):
        outcomes = world.run(drawer, wanted, replace(setting, steps=1))
        found.append((drawer, wanted, setting, outcomes[0].selections))
        return outcomes

    monkeypatch.setattr(drawn, "run", counted)
    return found


def test_mips_merges_and_the_ssr_encoders_stand_in_one_table_on_the_same_cases(folder, ran, tmp_path, capsys):
    given = ["evaluate", "selectivity", "--method", "mip", "--encoder", str(folder / "mip.safetensors"), "--count", "1"]
    assert main([*given, "--out", str(tmp_path / "new" / "out"), "--rows", "*-2"]) == 0
    names = ["gated-2", "no-gate-2", "sum-2", "joint-2", "ssr-by-word-2", "no-subject-2", "pictures-2"]
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == [
        *names[:-1],
        str(tmp_path / "new" / "out" / "selectivity.html"),
    ]
    assert "rows" not in said.out  # progress goes elsewhere
    drawers, wanted, settings, selections = zip(*ran, strict=True)
    assert [getattr(drawer, "combine", None) for drawer in drawers] == [
        "by word, gated", "by word", "separate", "joint", "by word", "by word, gated", "by word, gated",
    ]  # fmt: skip
    assert [type(drawer).__name__ for drawer in drawers[3:5]] == ["MIPDrawer", "SSRDrawer"]
    assert len({id(one) for one in wanted[:6]}) == 1
    assert [one.strength for one in settings] == [1, 1, 1, 1, 1, 0, 1]
    for thing, one in zip((selected.thing for selected in selections[0]), wanted[0][0].wanted, strict=True):
        assert thing.name == one.kind
        assert bool((thing.pictures[0][0, 0] == 255).all())  # cut out on white
    found = json.loads((tmp_path / "new" / "out" / "selectivity.json").read_text())
    row = found["merges"]["two objects, SSR-Encoder by word"]
    assert row["cases"] == 1
    assert {"look", "confused", "all_drawn", "prompt"} <= row.keys()
    assert "intervals" in row


def test_elites_rows_differ_by_lambda_and_words_and_draw_their_trade_off(folder, ran, tmp_path, capsys):
    pair = [str(folder / f"{stage}.safetensors") for stage in ("global", "local")]
    given = ["evaluate", "selectivity", "--method", "elite", "--count", "2", "--out", str(tmp_path)]
    wanted = ["*-base", "*-global-1", "*-0.8-*"]
    assert main([*given, "--encoder", *pair, "--rows", *wanted]) == 0
    assert [(type(drawer).__name__, setting.strength) for drawer, _, setting, _ in ran] == 2 * [
        ("SSRDrawer", 0.0), ("ELITEDrawer", 0.0), ("ELITEDrawer", 0.8), ("ELITEDrawer", 0.8),
    ]  # fmt: skip
    assert [drawer.words for drawer, *_ in ran[1:4]] == [1, 1, 5]
    plain, told = ran[0][1], ran[4][1]
    for one, other in zip(plain, told, strict=True):
        assert (one.wanted, one.background) == (other.wanted, other.background)
        assert other.told in COLOURS
        assert other.told in other.prompt
        assert not one.told
    assert all(not bool(selected[0].subject.patches.all()) for *_, selected in ran[1:4])  # the mask marks a part
    said = capsys.readouterr().out
    assert "edit-0.8-5: background " in said
    assert "told " in said
    assert (tmp_path / "colours_and_edit.svg").read_text().count("<polyline") == 2
    assert "colours_and_edit" not in (tmp_path / "selectivity.html").read_text()  # it stands in the page itself
    assert "Exact colours against edit" in (tmp_path / "selectivity.html").read_text()


def test_what_is_missing_is_said_in_words(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    for method, name in (("mip", "mip_adapter.safetensors"), ("elite", "elite_global.safetensors")):
        assert main(["evaluate", "selectivity", "--method", method, "--out", str(tmp_path / "out")]) == 2
        assert f"SSR Mini's file {name} is missing" in capsys.readouterr().err
    monkeypatch.undo()
    one = ["--encoder", str(folder / "global.safetensors"), "--rows", "look-0.8-1"]
    assert main(["evaluate", "selectivity", "--method", "elite", "--out", str(tmp_path / "out"), *one]) == 2
    assert "look-0.8-1 need the local mapper" in capsys.readouterr().err
    assert main(["evaluate", "selectivity", "--method", "mip", "--ablation", "a=b", "--out", str(tmp_path / "out")]) == 2
    assert "--ablation is for the SSR-Encoder" in capsys.readouterr().err


@pytest.mark.parametrize("method", selectivity.METHODS)
def test_every_methods_rows_can_be_listed_without_weights(method, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    assert main(["evaluate", "selectivity", "--method", method, "--rows", "help"]) == 0
    assert "  pictures: " in capsys.readouterr().out


@pytest.mark.parametrize("described", [mip_tables.rows(), elite_tables.rows()])
def test_rows_have_names_and_titles_of_their_own(described):
    titles = [(row.table, row.title) for row in described.values()]
    assert len(set(titles)) == len(titles)
    assert all(" " not in name for name in described)
    assert rows.chosen(described, []) == list(described)


class Everywhere:
    def heat(self):
        return torch.ones(1, 1)


def drawn_case(looks, wanted_looks, background="snow", told=""):
    """Two subjects, each alone in its reference with the look it is wanted with, and a picture of both with other looks."""
    kinds = ("star", "fish")
    references = [
        Wanted(Scene("beach", (Placed(Instance(kind, look), 64, 64, 36, 0),), 1), 0)
        for kind, look in zip(kinds, wanted_looks, strict=True)
    ]
    placed = tuple(Placed(Instance(kind, look), x, 64, 28, 0) for kind, look, x in zip(kinds, looks, (34, 94), strict=True))
    picture = Scene(background, placed, 2).drawn.picture
    return measure(Case(tuple(references), "", "snow", told), picture, (Everywhere(), Everywhere()))


RED, TEAL = Look("striped", "red", "yellow"), Look("dotted", "teal", "purple")


RED, TEAL = Look("striped", "red", "yellow"), Look("dotted", "teal", "purple")


def test_swapped_looks_count_as_confused():
    right, swapped = drawn_case((RED, TEAL), (RED, TEAL)), drawn_case((TEAL, RED), (RED, TEAL))
    assert (right.look_right, right.confused) == ((True, True), (False, False))
    assert (swapped.look_right, swapped.confused) == ((False, False), (True, True))
    both = scores([right, swapped])
    assert (both.look, both.confused, both.all_drawn, both.prompt) == (0.5, 0.5, 1.0, 1.0)
    assert both.told is both.edit is None
    assert both.intervals["look"][0] < 0.1 < 0.9 < both.intervals["look"][1]


def test_an_edit_is_obeyed_where_background_and_told_colour_are():
    blue = Look("striped", "blue", "yellow")
    told = drawn_case((blue, Look("dotted", "blue", "purple")), (RED, TEAL), told="blue")
    assert (told.told_right, told.edit_obeyed) == ((True, True), True)
    assert drawn_case((blue, TEAL), (RED, TEAL), told="blue").told_right == (True, False)
    elsewhere = drawn_case((blue, blue), (RED, TEAL), "night", told="blue")
    assert (elsewhere.told_right, elsewhere.edit_obeyed) == ((True, True), False)
    found = scores([told, elsewhere])
    assert (found.told, found.edit, found.background) == (1.0, 0.5, 0.5)


def test_a_told_colour_is_none_of_the_instances_and_changes_nothing_else():
    for told, plain in zip(cases(20, 2, told=True), cases(20, 2), strict=True):
        look = told.wanted[0].scene.things[told.wanted[0].index].instance.look
        assert told.told not in (look.first, look.second)
        assert f"{told.told} {told.wanted[0].kind}" in told.prompt
        assert (told.wanted, told.background) == (plain.wanted, plain.background)
        assert ("an " + told.told in told.prompt) == (told.told == "orange")


def test_learned_cases_show_an_instance_alone_and_ask_for_it_where_no_picture_had_it():
    found = LearnedCases().cases(12)
    assert found == ComparedCases("alone", 3, 5, pictures=5).cases(0)[:12], "what is learned serves both programs"
    assert [found[0].wanted, found[5].wanted] == [found[4].wanted, found[9].wanted]
    assert len({one.wanted for one in found}) == 3
    for case in found:
        (wanted,) = case.wanted
        scenes = [wanted.scene, *wanted.more]
        assert len({scene.seed for scene in scenes}) == 5
        assert {scene.things[0].instance for scene in scenes} == {wanted.scene.things[0].instance}
        assert len(wanted.scene.things) == 1
        assert wanted.scene.things[0].instance.held_out
        assert case.background not in {scene.background for scene in scenes}
        assert case.others != (wanted.scene.things[0].instance.look,)


def test_another_look_than_the_subjects_may_be_taken_for_that_of_others():
    (case,) = LearnedCases(pictures=1, prompts=1).cases(1)
    instance = case.wanted[0].scene.things[0].instance
    for look, right in ((instance.look, True), (case.others[0], False)):
        picture = Scene(case.background, (Placed(Instance(instance.kind, look), 64, 64, 36, 0),), 3).drawn.picture
        assert measure(case, picture, (Everywhere(),)).look_right == (right,)


def test_an_interval_is_wilsons_where_tries_are_independent_and_wider_where_they_go_together():
    # Wilson's formula for 90 of 100 independent tries
    assert interval([(1, 1)] * 90 + [(0, 1)] * 10) == pytest.approx((0.8256, 0.9448), abs=2e-3)
    low, high = interval([(1, 1)] * 100)
    assert (low, high) == pytest.approx((0.963, 1.0), abs=1e-3)
    together, apart = interval([(5, 5)] * 10 + [(0, 5)] * 10), interval([(1, 1)] * 50 + [(0, 1)] * 50)
    assert together[1] - together[0] > 1.8 * (apart[1] - apart[0])
    assert interval([(1, 1), (0, 0)]) == interval([(1, 1)])
    with pytest.raises(ValueError, match="has no interval"):
        interval([(0, 0)])
