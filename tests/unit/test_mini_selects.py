"""What the committed weights have learned: they select, by words, a mask or a click, and draw what they selected.

Few cases, so the bounds lie well below the figures of docs/measurements.md; a model that selects nothing is far below the bounds.
"""

import pytest
import torch

from ssr_core.evaluation.selectivity import Case, Wanted, cases, map_mass, run, scores, select
from ssr_core.evaluation.ssr import SSRSetting
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.ssr import formats
from ssr_core.mini import files

COUNT = 16


@pytest.fixture(scope="module")
def models():
    return load_base("mini"), formats.load([files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)


def measured(models, setting):
    return scores(run(setting.drawer(*models), list(cases(COUNT, 2)), setting))


@pytest.mark.parametrize(("query_by", "inside"), [("text", 0.75), ("mask", 0.9)])
def test_the_queried_one_of_two_objects_is_drawn(models, query_by, inside):
    found = measured(models, SSRSetting(query_by=query_by))
    assert found.look_strict >= 0.75  # chance 0.5
    assert found.colours >= 0.5  # chance 0.04
    assert found.prompt >= 0.85
    assert found.map_mass >= inside  # an even map has 0.08


def test_a_click_selects_the_object_under_it(models):
    found = measured(models, SSRSetting(query_by="click"))
    assert found.look_strict >= 0.75  # chance 0.5
    assert found.colours >= 0.5  # chance 0.04
    assert found.map_mass >= 0.8  # an even map has 0.08


def test_each_query_of_one_picture_looks_at_its_own_object(models):
    """The same picture, asked for each of its objects in turn."""
    drawer = SSRSetting().drawer(*models)
    right = 0
    for case in cases(8, 3, seed=1):
        scene = case.wanted[0].scene
        for asked in range(3):
            (selection,) = select(drawer, Case((Wanted(scene, asked),), "", ""), "text")
            shares = [map_mass(selection, Wanted(scene, thing)) for thing in range(3)]
            right += max(range(3), key=shares.__getitem__) == asked
    assert right >= 20  # of 24; chance 8


def test_without_a_subject_the_look_is_left_to_chance(models):
    found = measured(models, SSRSetting(strength=0.0))
    assert found.colours <= 0.125
