"""What step_overhead.py times: a call of the UNet in one way, and how much more than plain its operations come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Variant(NamedTuple):
    """extra: operations over the plain step's, as a share of those; None where nobody counted them. steps: in one call."""

    name: str
    call: Callable[[], Any]
    extra: float | None
    steps: int = 1
