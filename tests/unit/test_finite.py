"""Numbers at the door, in every place that multiplies something: strengths, curves, lists, masks and regions."""

import math

import numpy as np
import pytest
import torch

from ssr_core.finite import fault, finite, whole
from ssr_core.masks import as_masks
from ssr_core.methods.ssr.encode import Selection
from ssr_core.schedule import Manner, StepSchedule, parse_numbers
from ssr_core.shown import shown
from ssr_core.words import Query

NONE = [
    math.nan,
    math.inf,
    -math.inf,
    -1e30,
    3.4e38,
    "0.5",
    None,
    [0.5],
    1j,
    np.array([0.5]),
    torch.tensor([0.5]),
    torch.tensor(math.nan),
]
NUMBERS = [0.5, np.float16(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5, dtype=torch.bfloat16)]


@pytest.mark.parametrize("value", NONE, ids=repr)
def test_what_is_no_number_is_refused_by_name_everywhere(value):
    query = Query("dog", torch.zeros(1, 2, 4))
    for what, make in {
        "strength": lambda: Manner(value),
        "frame strengths: number 2": lambda: Manner(1.0, pictures=(1.0, value)),
        "layer strengths: number 1": lambda: Manner(1.0, layers=(value,)),
        "strength curve": lambda: StepSchedule(curve=(1.0, value)),
        "start": lambda: StepSchedule(start=value),
        "mask_weight": lambda: Selection(query, query, mask_weight=value),
    }.items():
        with pytest.raises(ValueError, match=what) as caught:
            make()
        assert "finite number" in str(caught.value) or what == "start"


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: type(value).__name__)
def test_every_kind_of_number_is_a_number_everywhere(value):
    manner = Manner(value, (value,), (value,), StepSchedule(value, 1, (value,)))
    assert (manner.strength, manner.pictures, manner.layers, manner.steps.start, manner.steps.curve) == (
        0.5,
        (0.5,),
        (0.5,),
        0.5,
        (0.5,),
    )
    assert all(type(one) is float for one in (manner.strength, *manner.pictures, *manner.steps.curve))


def test_factors_count_together():
    assert Manner(10, (10.0,)).strength == 10
    with pytest.raises(ValueError, match=r"come to 1000 .* may be 100 at most"):
        Manner(10, (10.0,), steps=StepSchedule(curve=(1.0, -10.0)))


def test_lists_and_texts_beyond_a_limit_are_refused_shortly():
    for make in (
        lambda: parse_numbers("1," * 10_001, "curve"),
        lambda: parse_numbers("x" * 150_000, "curve"),
        lambda: parse_numbers("1" * 5_000_000, "curve"),
        lambda: parse_numbers("1e30", "curve"),
        lambda: parse_numbers(None, "curve"),
        lambda: Manner(1.0, pictures=(1.0,) * 10_001),
    ):
        with pytest.raises(ValueError, match=r"curve|frame strengths") as caught:
            make()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (1, 1, 4, 6), (1, 4, 6, 1)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.float64])
def test_masks_of_two_to_four_dimensions_are_one(shape, dtype):
    mask = torch.zeros(4, 6)
    mask[1, 2] = 1
    assert torch.equal(as_masks(mask.view(shape).to(dtype), "The mask"), mask[None])
    assert torch.equal(Manner(region=mask.view(shape).to(dtype)).region, mask[None])


@pytest.mark.parametrize("shape", [(), (6,), (0, 4, 6), (2, 4, 6, 3), (2, 2, 4, 6), (1, 1, 1, 4, 6), (4, 0)])
def test_what_is_no_mask_is_refused_with_its_shape(shape):
    for make in (lambda: as_masks(torch.ones(shape), "The mask"), lambda: Manner(region=torch.ones(shape))):
        with pytest.raises(ValueError, match="expected a MASK"):
            make()


def test_a_mask_of_no_plain_tensor_is_refused():
    for mask in (
        torch.ones(4, 6).to_sparse(),
        torch.ones(4, 6, device="meta"),
        torch.quantize_per_tensor(torch.ones(4, 6), 0.1, 0, torch.quint8),
    ):
        with pytest.raises(ValueError, match=r"is no plain tensor .*; expected a MASK"):
            as_masks(mask, "The mask")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30, 3.4e38, 255.0, -2.0])
def test_a_mask_with_numbers_that_are_none_is_refused(value):
    mask = torch.ones(1, 4, 6)
    mask[0, 0, 0] = value
    for named, make in {"The mask": lambda: as_masks(mask, "The mask"), "The region": lambda: Manner(region=mask)}.items():
        with pytest.raises(ValueError, match=f"{named} holds numbers"):
            make()


def test_a_resized_masks_overshoot_is_cut():
    assert as_masks(torch.tensor([[-0.1, 1.2]]), "The mask").tolist() == [[[0.0, 1.0]]]


def test_a_mask_beyond_every_picture_is_refused_before_it_is_copied():
    for shape in ((40_000, 40_000), (1, 2, 70_000), (100_000, 1000, 1000)):
        with pytest.raises(ValueError, match=r"at most|are taken"):
            as_masks(torch.zeros(1, dtype=torch.bool).expand(shape), "The mask")


def test_numbers_with_limits():
    assert whole(np.int64(3), "index", 1, 64) == 3
    for value in (0, 65, 2.0, "3", None, math.nan, torch.tensor([1, 2])):
        with pytest.raises(ValueError, match=r"index is .*expected a whole number from 1 to 64"):
            whole(value, "index", 1, 64)
    with pytest.raises(ValueError, match=r"opacity is 1\.5; expected a finite number from 0 to 1"):
        finite(1.5, "opacity", 0, 1)
    assert fault(torch.zeros(0)) is None
    assert fault(torch.tensor([[1.0, -1.0]])) is None


def test_what_is_shown_is_one_line_and_short():
    assert shown("a\x1b[2J\r\n\u202eb\x00") == "a\\x1b[2J\\r\\n\\u202eb\\x00"
    assert shown("Straße 猫 é") == "Straße 猫 é"
    assert len(shown("x" * 10_000_000)) < 250
