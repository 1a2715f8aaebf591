"""Click to select: what belongs to the patches pointed at."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_core import select

GRID = 8


def two_things(generator, noise=0.1):
    """Features of a grid with a thing in the middle and its twin, apart from it, in a corner: [P, C], and the thing's mask."""
    ground, thing = torch.randn(2, 16, generator=generator)
    middle, corner = torch.zeros(2, GRID, GRID, dtype=torch.bool)
    middle[2:5, 2:6] = True
    corner[7, 7] = corner[6, 7] = True
    features = torch.where((middle | corner).flatten()[:, None], thing, ground)
    return features + noise * torch.randn(GRID * GRID, 16, generator=generator), middle.flatten(), corner.flatten()


@pytest.mark.parametrize("seed", range(5))
def test_a_click_parts_a_thing_from_another_that_touches_it(seed):
    """Both are more like each other than like the ground."""
    generator = torch.Generator().manual_seed(seed)
    ground, thing, one, other = torch.randn(4, 64, generator=generator)
    kind = torch.zeros(GRID, GRID, dtype=torch.long)
    kind[2:5, 1:4], kind[2:5, 4:7] = 1, 2
    features = torch.stack([ground, thing + one, thing + other])[kind.flatten()]
    features = features + 0.1 * torch.randn(GRID * GRID, 64, generator=generator)
    assert torch.equal(select.select_patches(features, at(3, 2)), kind.flatten() == 1)
    assert torch.equal(select.select_patches(features, at(3, 2) | at(3, 5)), kind.flatten() > 0)


def test_what_touches_by_a_corner_only_is_apart():
    features, middle, _ = two_things(torch.Generator().manual_seed(0), noise=0.01)
    features[5 * GRID + 6] = features[2 * GRID + 2]  # beside the lower right corner of the thing in the middle
    assert torch.equal(select.select_patches(features, at(3, 3)), middle)


def at(row, column):
    marked = torch.zeros(GRID, GRID, dtype=torch.bool)
    marked[row, column] = True
    return marked.flatten()


@pytest.mark.parametrize("seed", range(5))
def test_a_click_selects_its_thing_and_not_a_twin_elsewhere(seed):
    features, middle, corner = two_things(torch.Generator().manual_seed(seed))
    assert torch.equal(select.select_patches(features, at(3, 3)), middle)
    assert torch.equal(select.select_patches(features, at(7, 7)), corner)
    assert torch.equal(select.select_patches(features, at(3, 3) | at(7, 7)), middle | corner)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**16), marks=st.sets(st.integers(0, GRID * GRID - 1), min_size=1, max_size=6))
def test_what_was_pointed_at_is_always_selected(seed, marks):
    features = torch.randn(GRID * GRID, 16, generator=torch.Generator().manual_seed(seed))
    marked = torch.zeros(GRID * GRID, dtype=torch.bool)
    marked[list(marks)] = True
    assert bool(select.select_patches(features, marked)[marked].all())


def test_an_even_picture_is_selected_without_a_fault():
    assert select.select_patches(torch.ones(GRID * GRID, 16), at(0, 0)).any()


def test_otsus_threshold_parts_two_groups():
    split = select.otsu(torch.tensor([0.1, 0.2, 0.15, 0.8, 0.9, 0.05]))
    assert 0.2 < split.threshold < 0.8
    assert split.gap == pytest.approx(0.85 - 0.125)
    assert split.share > 0.95


def test_a_heap_of_numbers_is_not_two_groups():
    heap = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    assert select.otsu(heap).share == pytest.approx(select.HEAP, abs=0.01)
    assert select.otsu(torch.linspace(0, 1, 1000)).share == pytest.approx(0.75, abs=0.01)
    for values in (torch.ones(9), torch.ones(1), torch.ones(0)):
        assert select.otsu(values).gap == 0.0


def test_the_layer_looked_at_is_five_sixths_deep():
    assert (select.layer_of(24), select.layer_of(6), select.layer_of(1)) == (20, 5, 1)
