"""The tables of docs/measurements.md and README.md, as Markdown: python benchmarks/compared_tables.py docs/compare.json

compare.json: what `ssr-encoder evaluate compare` wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssr_core.evaluation.compare import METHODS, STRENGTH, tried
from ssr_core.shown import percent

Row = Mapping[str, Any]
Cell = Callable[[Row], str]
NONE = "\N{EN DASH}"
"""A cell that a method cannot fill."""
SHORT = {
    "ssr-words": "SSR-Encoder, by words",
    "mip": "MIP-Adapter",
    "elite": "ELITE",
    "lasr": "LASR (5 pictures)",
    "textual-inversion": "Textual Inversion (5 pictures)",
    "image-prompt": "image prompt, the whole picture",
}
"""Methods of the README's table."""


def share(name: str) -> Cell:
    return lambda row: NONE if row.get(name) is None else percent(row[name])


def bounded(name: str) -> Cell:
    """With its interval, in whole percents."""

    def cell(row: Row) -> str:
        if row.get(name) is None:
            return NONE
        low, high = row["intervals"][name]
        return f"{percent(row[name])} ({100 * low:.0f} to {100 * high:.0f})"

    return cell


def operations(row: Row) -> str:
    return f"+{max(row['operations'], 0):.1%}".replace("%", " %")


def memory(row: Row) -> str:
    return f"+{max(row['memory'], 0) / 2**20:.1f} MiB"


def seconds(row: Row) -> str:
    return _seconds(row["seconds"]) if "seconds" in row else NONE


def _seconds(taken: float) -> str:
    """Two digits, or whole ones."""
    return f"{taken:.2g}" if taken < 9.95 else f"{taken:.0f}"


def size(row: Row) -> str:
    return f"{row['size'] / 2**10:.0f} KiB" if "size" in row else NONE


def strength(row: Row) -> str:
    return f"{row['strength']:g}" if "strength" in row else NONE


_OF_A_LOOK = {"look": bounded("look"), "strict": share("look_strict")}
_EXACT = {"both colours exact": share("colours"), "prompt": bounded("prompt")}
TABLES: Mapping[str, Mapping[str, Cell]] = {
    "alone": {**_OF_A_LOOK, **_EXACT, "drawn": share("all_drawn")},
    "among": {**_OF_A_LOOK, **_EXACT, "drawn": share("all_drawn")},
    "two": {**_OF_A_LOOK, **_EXACT, "both drawn": share("all_drawn"), "confused": share("confused")},
    "edit": {
        **_OF_A_LOOK,
        "prompt": bounded("prompt"),
        "told colour": share("told"),
        "edit: both obeyed": bounded("edit"),
    },
}
COSTS: Mapping[str, Cell] = {
    "strength": strength,
    "operations": operations,
    "memory": memory,
    "seconds to make": seconds,
    "file": size,
}


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head, *lines = (f"| {' | '.join(row)} |" for row in (columns, *rows))
    return [head.replace("|  |", "| |"), "|---" * len(columns) + "|", *lines]


def of_situation(found: Mapping[str, Row], columns: Mapping[str, Cell]) -> list[str]:
    """A row for each method that was measured, or that says why it cannot be."""
    rows = [
        [method.title, *(cell(row) if "cases" in row else NONE for cell in columns.values())]
        for method in METHODS.values()
        if (row := found.get(method.title))
    ]
    return markdown(["", *columns], rows)


def of_strengths(found: Mapping[str, Row]) -> list[str]:
    rows = []
    for method in METHODS.values():
        tries = [(f"{one:g}", found.get(tried(method, one), {})) for one in method.strengths]
        cells = [f"{one}: {100 * row['look']:.0f} / {100 * row['prompt']:.0f}" for one, row in tries if "cases" in row]
        if cells:
            rows.append([method.title, ", ".join(cells)])
    return markdown(["", "strength: look / prompt"], rows)


def of_readme(found: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """Which method for what."""

    def made(row: Row) -> str:
        taken = row.get("seconds")
        return NONE if taken is None else f"{taken / 60:.0f} min" if taken >= 60 else f"{_seconds(taken)} s"

    columns: dict[str, tuple[str, Cell]] = {
        "look, alone in its picture": ("alone", share("look")),
        "look, one of several": ("among", share("look")),
        "prompt obeyed": ("alone", share("prompt")),
        "told colour obeyed": ("edit", share("told")),
        "operations of a step": ("alone", lambda row: f"+{percent(max(row['operations'], 0))}"),
        "to make a subject": ("alone", made),
    }
    rows = []
    for method, title in SHORT.items():
        measured = {situation: found[situation][METHODS[method].title] for situation, _ in columns.values()}
        cells = [cell(measured[of]) if "cases" in measured[of] else NONE for of, cell in columns.values()]
        rows.append([title, *cells])
    return markdown(["measured on SSR Mini", *columns], rows)


def tables(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Lines of every table, by the name of what it shows."""
    of = {situation: of_situation(found[situation], columns) for situation, columns in TABLES.items()}
    return {
        **of,
        "costs": of_situation(found["alone"], COSTS),
        STRENGTH: of_strengths(found[STRENGTH]),
        "README": of_readme(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("compared", type=Path)
    for name, lines in tables(json.loads(parser.parse_args().compared.read_text(encoding="utf-8"))).items():
        print(f"{name}\n", *lines, "", sep="\n")


if __name__ == "__main__":
    main()
