"""What nodes take at the door, whoever sent it."""

import numpy as np
import pytest
import torch
from support import comfy_host


@pytest.fixture(scope="module")
def strengths():
    return comfy_host.part("nodes.checks").strengths


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5)], ids=lambda value: type(value).__name__
)
def test_every_kind_of_number_is_one_strength(strengths, value):
    strength, pictures = strengths(value)
    assert (type(strength), strength, pictures) == (float, 0.5, ())
    assert strengths(value, (1.0, 0.5)) == (0.5, (1.0, 0.5))


@pytest.mark.parametrize("value", [1, True, np.int64(1), torch.tensor(1)], ids=repr)
def test_whole_numbers_are_numbers(strengths, value):
    assert strengths(value) == (1.0, ())


@pytest.mark.parametrize(
    "value",
    [[0.5, 1], (0.5, 1.0), np.array([0.5, 1.0]), torch.tensor([0.5, 1.0]), [np.float32(0.5), torch.tensor(1)]],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_list_is_one_strength_a_frame(strengths, value):
    assert strengths(value) == (1.0, (0.5, 1.0))
    with pytest.raises(ValueError, match="leave frame_strengths empty"):
        strengths(value, (1.0, 0.5))


@pytest.mark.parametrize("value", [None, "12", "strong", [], ["a"], [[1, 2]], float("nan"), [0.5, float("inf")], {}], ids=repr)
def test_anything_else_is_refused(strengths, value):
    with pytest.raises(ValueError, match=r"strength got .*; expected a number, or a list of numbers"):
        strengths(value)
