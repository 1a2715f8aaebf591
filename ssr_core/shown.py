"""How messages, logs, terminals and reports write things: foreign text in one line, without control characters, and never longer than it
helps; shares as percentages."""

from __future__ import annotations

SHOWN = 200
"""Characters of a name or text from a file that a message shows."""
LONGEST_MESSAGE = 1600
"""Characters of a message that still fit on a screen."""


def shown(text: object, limit: int = SHOWN) -> str:
    """Text with everything escaped that is not printable (control characters, line ends, bidirectional marks), cut at the limit."""
    raw = str(text)
    plain = _escaped(raw[:limit])
    return plain if len(raw) <= limit else f"{plain}... ({len(raw):,} characters)"


def plain(text: object) -> str:
    """A whole message for a terminal or a log: it may have lines, stays shorter than a screen, and cannot move the cursor."""
    lines = str(text)[:LONGEST_MESSAGE].split("\n")
    return "\n".join(map(_escaped, lines)) + (" ..." if len(str(text)) > LONGEST_MESSAGE else "")


def percent(share: float) -> str:
    """A share of 0..1 as everything here writes it."""
    return f"{share:.0%}".replace("%", " %")


def _escaped(text: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text)
