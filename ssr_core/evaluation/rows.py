"""Rows of a table over the drawn world, as a method describes them before any model is loaded, and which of them a person asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from ..shown import shown
from .selectivity import Case, Setting, cases

PICTURES = "pictures"
"""The table whose rows are pages of pictures, with no numbers."""


class Cases(Protocol):
    """What a row is measured on. count: how many cases, where it is not the command's."""

    @property
    def count(self) -> int | None: ...
    def cases(self, count: int) -> list[Case]: ...


@dataclass(frozen=True)
class CaseSet:
    """Which cases a row is measured on. See selectivity.cases; count: where it is not the command's."""

    objects: int = 2
    subjects: int = 1
    named: bool = True
    told: bool = False
    count: int | None = None

    def cases(self, count: int) -> list[Case]:
        return list(cases(self.count or count, self.objects, self.subjects, named=self.named, told=self.told))


@dataclass(frozen=True)
class Row:
    """One line of a table. title: its name in the report, which is the only one of its table; weights: which of a method's, "" for the
    ones that are measured, else of an ablation or another method."""

    table: str
    title: str
    of: Cases
    setting: Setting
    weights: str = ""


def slug(text: str) -> str:
    """A name fit for a command line: "by word" -> "by-word"."""
    return "-".join(text.lower().split())


def chosen(rows: Mapping[str, Row], names: Sequence[str]) -> list[str]:
    """The rows that names ask for, in the table's order: rows, whole tables, or patterns such as "text-*"; without names all of them.

    Raises ValueError that lists what there is, for a name that is none.
    """
    found = set()
    for name in names:
        hits = {short for short, row in rows.items() if name == row.table or fnmatchcase(short, name)}
        if not hits:
            raise ValueError(f'There is no row or table "{shown(name, 60)}". There are:\n{listed(rows)}')
        found |= hits
    return [short for short in rows if short in found or not names]


def listed(rows: Mapping[str, Row]) -> str:
    """Every table with its rows, one table a line."""
    tables: dict[str, list[str]] = {}
    for short, row in rows.items():
        tables.setdefault(row.table, []).append(short)
    return "\n".join(f"  {table}: {' '.join(names)}" for table, names in tables.items())
