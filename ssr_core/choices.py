"""Choices by name, as arguments, links and old workflows bring them: one that does not exist is refused instead of taken for another."""

from __future__ import annotations

from typing import Any

from .shown import shown


def choice(value: Any, choices: tuple[str, ...], what: str) -> str:
    """Raises ValueError that names the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f'{what} is "{shown(value, 60)}"; expected one of: {", ".join(choices)}.')
    return value
