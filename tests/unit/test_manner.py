"""How something acts, in one value: whether anything is left of it, at which layers, and in which region."""

import re

import numpy as np
import pytest
import torch

from ssr_core.layout import UNetLayout
from ssr_core.schedule import Manner, StepSchedule, layer_strengths


@pytest.mark.parametrize(
    "manner",
    [Manner(strength=0.0), Manner(pictures=(0.0, 0.0)), Manner(layers=(0.0,) * 16), Manner(0.0, (1.0,), (1.0,) * 16)],
    ids=["strength", "pictures", "layers", "strength beside others"],
)
def test_what_is_multiplied_by_zero_everywhere_does_not_act(manner):
    assert not manner.acts


def test_what_is_left_at_one_picture_and_one_layer_acts():
    assert Manner().acts
    assert Manner().strength == 1.0
    assert Manner(-0.5, (0.0, 1.0), (0.0,) * 15 + (0.1,)).acts


def test_a_layer_has_its_own_multiplier_or_one():
    assert Manner(layers=(0.5, 0.0, 2.0)).in_layer(2) == 2.0
    assert Manner().in_layer(2) == 1.0


def test_a_region_of_one_frame_or_several_is_kept_in_float():
    mask = torch.tensor([[0, 1, 0], [0, 0, 0]], dtype=torch.uint8)
    for region in (mask, mask[None]):
        assert torch.equal(Manner(region=region).region, mask[None].float())
    assert Manner(region=torch.rand(3, 2, 2).double()).region.dtype == torch.float32
    assert Manner().region is None


@pytest.mark.parametrize("shape", [(4,), (1, 2, 4, 4), (0, 4, 4), (1, 4, 0)], ids=str)
def test_a_region_that_is_no_mask_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=re.escape(f"region has shape {shape}; expected a MASK")):
        Manner(region=torch.ones(shape))


def test_an_empty_region_is_refused():
    with pytest.raises(ValueError, match="region is empty"):
        Manner(region=torch.zeros(1, 4, 4))


LISTS_THAT_ARE_NONE = [
    5,
    1.0,
    True,
    None,
    object(),
    1j,
    "1, 2",
    b"12",
    {1.0: 2},
    {1.0},
    torch.tensor(1.0),
    np.float32(1),
    [[1.0]],
    ["1"],
]


@pytest.mark.parametrize("value", LISTS_THAT_ARE_NONE, ids=lambda value: type(value).__name__)
def test_what_is_no_list_of_numbers_is_refused_in_words(value):
    layout = UNetLayout(channels=(8, 16), depths=(1, 1), resnets=1, heads=2)
    for make in (
        lambda: Manner(1.0, pictures=value),
        lambda: Manner(1.0, layers=value),
        lambda: StepSchedule(curve=value),
        lambda: layer_strengths(layout, "all", value),
        lambda: layer_strengths(layout, value),
        lambda: Manner(1.0, steps=value),
    ):
        with pytest.raises(ValueError, match=r"expected|There is no layer preset"):
            make()


@pytest.mark.parametrize(
    "numbers",
    [[1, 0.5], (1.0, 0.5), torch.tensor([1.0, 0.5]), np.array([1.0, 0.5])],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_list_of_numbers_is_taken(numbers):
    manner = Manner(1.0, pictures=numbers, layers=numbers, steps=StepSchedule(curve=numbers))
    assert manner.pictures == manner.layers == manner.steps.curve == (1.0, 0.5)


def test_strengths_for_another_number_of_layers_are_refused():
    layout = UNetLayout(channels=(8, 16), depths=(1, 1), resnets=1, heads=2)
    Manner(1.0, layers=layer_strengths(layout, "all")).check_layers(layout)
    Manner(1.0).check_layers(layout)
    with pytest.raises(ValueError, match="has 3 numbers for a UNet of 7 cross-attention layers"):
        Manner(1.0, layers=(1.0, 0.0, 1.0)).check_layers(layout)
