"""What pydantic found wrong with a user's file, in one line of plain words."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST_FAULTS = 8
"""Told at once; more than these are counted only."""


def told(error: ValidationError) -> str:
    """Every fault with its field and what was given: "heads must be at least 1, got 0"; fields that are unknown or missing by name."""
    found = list(_faults(error))
    more = f"; and {len(found) - MOST_FAULTS} more" if len(found) > MOST_FAULTS else ""
    return "; ".join(found[:MOST_FAULTS]) + more


def _faults(error: ValidationError) -> Iterator[str]:
    found = error.errors(include_url=False)
    for kind, says in (("unexpected_keyword_argument", "unknown"), ("missing", "missing")):
        if names := [_field(fault) for fault in found if fault["type"] == kind]:
            yield f"{says} {_listed(names)}"
    for fault in found:
        if fault["type"] not in ("unexpected_keyword_argument", "missing"):
            yield f"{_field(fault)} {_must(fault['msg'])}, got {_short(fault['input'])}".lstrip()


def _field(fault: ErrorDetails) -> str:
    """Path of a field: "validation.0.mask" for the mask of the first entry."""
    return ".".join(str(part) for part in fault["loc"])


def _listed(names: list[str]) -> str:
    shown = ", ".join(name if len(name) <= 60 else f"{name[:60]}..." for name in names[:MOST_FAULTS])
    return shown + (f" and {len(names) - MOST_FAULTS} more" if len(names) > MOST_FAULTS else "")


def _must(message: str) -> str:
    plain = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return plain.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")


def _short(given: object, limit: int = 60) -> str:
    shown = repr(given)
    return shown if len(shown) <= limit else f"{shown[:limit]}..."
