"""Ctrl-C in the middle of work that must not stop in the middle of a step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_between_steps() -> Iterator[list[int]]:
    """Ctrl-C is noted in the list, which is empty until then, for whoever steps to look at after each step; a second one ends the work at
    once, as ever."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, where nobody presses keys
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
