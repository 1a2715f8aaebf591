"""How something acts, in one value: whether anything is left of it, at which layers, and in which region."""

import re

import pytest
import torch

from ssr_core.schedule import Manner


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
