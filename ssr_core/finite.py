"""Numbers as people and files give them, checked at the door: what is no number, is not finite or is beyond a limit is refused by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .shown import shown

LARGEST_STRENGTH = 100.0
"""Of every multiplier and of all of them together. The authors use 0.5 to 0.8; far beyond 3 nothing but noise is drawn."""
LARGEST_WEIGHT = 1e4
"""Of a trained weight and of a subject's number: a thousand times what real ones reach, and still a number in half precision."""


def is_number(value: Any) -> bool:
    """numpy's scalars, and arrays and tensors without a dimension, are numbers too."""
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0


def finite(value: Any, what: str, least: float = -math.inf, most: float = math.inf) -> float:
    """A number as a float. Raises ValueError that says what it is and what was expected."""
    try:
        number = float(value) if is_number(value) else math.nan
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not math.isfinite(number) or not least <= number <= most:
        raise ValueError(f"{what} is {shown(repr(value), 60)}; expected {_range(least, most)}.")
    return number


def whole(value: Any, what: str, least: int, most: int) -> int:
    """A whole number as an int; 2.0 is none, as in Python's own indices. Raises ValueError as finite does."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        raise ValueError(f"{what} is {shown(repr(value), 60)}; expected a whole number from {least:,} to {most:,}.")
    return number


def strength(value: Any, what: str = "strength") -> float:
    return finite(value, what, -LARGEST_STRENGTH, LARGEST_STRENGTH)


def fault(tensor: Tensor, least: float = -LARGEST_WEIGHT, most: float = LARGEST_WEIGHT) -> str | None:
    """What is wrong with a tensor's numbers, in words, or None. An extreme that is no number is a number that is none."""
    if not tensor.numel():
        return None
    low, high = (float(extreme) for extreme in torch.aminmax(tensor.detach()))
    if not math.isfinite(low) or not math.isfinite(high):
        return "numbers that are not finite (NaN or infinity)"
    if low < least or high > most:
        return f"numbers from {low:.4g} to {high:.4g}, expected {least:g} to {most:g}"
    return None


def check(tensors: Mapping[str, Tensor], named: str, remedy: str) -> None:
    """Raises ValueError for the first tensor that holds no weights (fault). remedy: what the reader can do."""
    for name, tensor in tensors.items():
        if (found := fault(tensor)) is not None:
            raise ValueError(f"{named}: {shown(name)} holds {found}. {remedy}")


def _range(least: float, most: float) -> str:
    if math.isinf(least) and math.isinf(most):
        return "a finite number"
    return f"a finite number from {least:g} to {most:g}"
