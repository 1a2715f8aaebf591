"""What travels along the pack's own wires."""

from __future__ import annotations

from comfy_api.latest import io

Encoder = io.Custom("SSR_ENCODER")
"""hosts.comfyui.encoders.HostEncoder"""

Subject = io.Custom("SSR_SUBJECT")
"""subject.SubjectSet: a tuple of one or several subjects"""

CATEGORY = "SSR-Encoder"


def choice(value: str, choices: tuple[str, ...], what: str) -> str:
    """Older hosts do not check combo values, and shared workflows may hold stale ones."""
    if value not in choices:
        raise ValueError(f'{what} is "{value}"; expected one of: {", ".join(choices)}.')
    return value
