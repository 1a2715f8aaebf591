"""Foreign text as messages, logs and terminals show it: in one line, without control characters, and never longer than it helps."""

from __future__ import annotations

SHOWN = 200
"""Characters of a name or text from a file that a message shows."""


def shown(text: object, limit: int = SHOWN) -> str:
    """Text with everything escaped that is not printable (control characters, line ends, bidirectional marks), cut at the limit."""
    raw = str(text)
    cut = raw[:limit]
    plain = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in cut)
    return plain if len(raw) <= limit else f"{plain}... ({len(raw):,} characters)"
