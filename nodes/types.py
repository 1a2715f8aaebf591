"""What travels along the pack's own wires."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.latest import io

Encoder = io.Custom("SSR_ENCODER")
"""hosts.comfyui.encoders.HostEncoder"""

Subject = io.Custom("SSR_SUBJECT")
"""subject.SubjectSet: a tuple of one or several subjects"""

Footprint = io.Custom("SSR_FOOTPRINT")
"""hosts.comfyui.recording.Recorder: filled when the sampling ends"""

CATEGORY = "SSR-Encoder"


def strengths(value: Any, what: str = "strength") -> float | tuple[float, ...]:
    """One strength, or one per picture of the batch: FLOAT outputs of other packs' schedulers carry lists."""
    single = isinstance(value, int | float)
    try:
        numbers = tuple(float(one) for one in ((value,) if single else value))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{what} got {value!r}; expected a number, or a list of numbers with one for each frame.")
    return numbers[0] if single else numbers


def choice(value: str, choices: tuple[str, ...], what: str) -> str:
    """Older hosts do not check combo values, and shared workflows may hold stale ones."""
    if value not in choices:
        raise ValueError(f'{what} is "{value}"; expected one of: {", ".join(choices)}.')
    return value
