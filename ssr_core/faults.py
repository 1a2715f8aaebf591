"""What pydantic found wrong with a user's file, in one line of plain words."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def told(error: ValidationError) -> str:
    """Every fault with its field and the value given: "heads must be at least 1, got 0". Unknown and missing fields are listed."""
    return "; ".join(_faults(error))


def _faults(error: ValidationError) -> Iterator[str]:
    found = error.errors(include_url=False)
    for kind, says in (("unexpected_keyword_argument", "unknown"), ("missing", "missing")):
        if names := [_field(fault) for fault in found if fault["type"] == kind]:
            yield f"{says} {', '.join(names)}"
    for fault in found:
        if fault["type"] not in ("unexpected_keyword_argument", "missing"):
            yield f"{_field(fault)} {_must(fault['msg'])}, got {_short(fault['input'])}".lstrip()


def _field(fault: ErrorDetails) -> str:
    """Path of a field: "validation.0.mask" for the mask of the first entry."""
    return ".".join(str(part) for part in fault["loc"])


def _must(message: str) -> str:
    plain = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return plain.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")


def _short(given: object, limit: int = 60) -> str:
    shown = repr(given)
    return shown if len(shown) <= limit else f"{shown[:limit]}..."
