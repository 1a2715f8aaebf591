"""Checks at the door: what widgets and links may bring that the schema does not keep out. A linked input obeys no widget's limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..ssr_core import choices, finite
from ..ssr_core.schedule import MOST_NUMBERS
from ..ssr_core.shown import shown
from ..ssr_core.text_files import check_characters

choice = choices.choice
"""Older hosts do not check, and shared workflows may hold stale ones."""
number = finite.finite
whole = finite.whole
strength = finite.strength


def scaled(slots: Sequence[tuple[Any, Any]]) -> list[tuple[Any, ...]]:
    """The sets in the slots of a Combine node, each times its slot's strength. An empty slot may hold None."""
    factors = [strength(given, f"strength_{slot}") for slot, (_, given) in enumerate(slots, start=1)]
    return [tuple(one.scaled(factor) for one in held or ()) for (held, _), factor in zip(slots, factors, strict=True)]


def found(*looked_for: Callable[[], Any]) -> bool | str:
    """For validate_inputs: True where all files are found, else what is to be said of each that is not."""
    faults: dict[str, None] = {}
    for find in looked_for:
        try:
            find()
        except (ValueError, OSError) as error:
            faults[str(error)] = None
    return " ".join(faults) or True


def strengths(value: Any, frames: tuple[float, ...] = ()) -> tuple[float, tuple[float, ...]]:
    """A strength, and a multiplier for each picture of the batch, () for 1: FLOAT outputs of other packs' schedulers carry lists.

    frames: such multipliers, typed beside a single strength. numpy's scalars and tensors without a dimension are numbers too.
    """
    single = finite.is_number(value)
    try:
        count = 1 if single else len(value)
        if count > MOST_NUMBERS:
            raise ValueError(f"strength has {count:,} numbers; at most {MOST_NUMBERS:,} are taken, one for each frame.")
        given = () if isinstance(value, str | bytes) else tuple(value) if not single else (value,)
        numbers = tuple(float(one) for one in given if finite.is_number(one))
    except (TypeError, OverflowError, RuntimeError):
        given, numbers = (), ()
    if not numbers or len(numbers) != len(given) or not all(abs(one) <= finite.LARGEST_STRENGTH for one in numbers):
        raise ValueError(
            f"strength got {shown(repr(value), 60)}; expected a number, or a list of numbers with one for each frame, each finite and at "
            f"most {finite.LARGEST_STRENGTH:g}."
        )
    if single:
        return numbers[0], frames
    if frames:
        raise ValueError("strength already has a number for each frame; leave frame_strengths empty, or disconnect strength.")
    return 1.0, numbers


def switch(value: Any, what: str) -> bool:
    """Off or on; linked numbers 0 and 1 are taken for them."""
    if not finite.is_number(value) or float(value) not in (0.0, 1.0):
        raise ValueError(f"{what} is {shown(repr(value), 60)}; expected true or false.")
    return bool(value)


def text(value: Any, what: str) -> str:
    check_characters(value, what)
    return value
