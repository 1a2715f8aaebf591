"""Checks of what widgets and links may carry although the schema does not allow it."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any


def strengths(value: Any, frames: tuple[float, ...] = ()) -> tuple[float, tuple[float, ...]]:
    """A strength, and a multiplier for each picture of the batch, () for 1: FLOAT outputs of other packs' schedulers carry lists.

    frames: such multipliers, typed beside a single strength. numpy's scalars and tensors without a dimension are numbers too.
    """
    single = isinstance(value, Real) or getattr(value, "ndim", None) == 0
    try:
        numbers = () if isinstance(value, str) else tuple(float(one) for one in ((value,) if single else value))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"strength got {value!r}; expected a number, or a list of numbers with one for each frame.")
    if single:
        return numbers[0], frames
    if frames:
        raise ValueError("strength already has a number for each frame; leave frame_strengths empty, or disconnect strength.")
    return 1.0, numbers


def choice(value: str, choices: tuple[str, ...], what: str) -> str:
    """Refuse a value that is not a choice: older hosts do not check, and shared workflows may hold stale ones."""
    if value not in choices:
        raise ValueError(f'{what} is "{value}"; expected one of: {", ".join(choices)}.')
    return value
