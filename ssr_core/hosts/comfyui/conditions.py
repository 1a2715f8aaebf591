"""Which side each chunk of a batch is on, and which crop of the picture it works on.

cond_or_uncond alone does not tell: SAG labels a negative pass 0, DualCFG labels its negative 0 and its positive 2. The guider's own
lists of conds do: by identity, else by the uuid of their conds, and only where those are silent by the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...attention import NULL, SUBJECT
from ...schedule import Area

Conds = Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class Conditions:
    """What a batch of conds tells: a side per cond list, crops by cond list and uuid, and the latent size of the picture."""

    rows: tuple[int, ...]
    areas: Mapping[tuple[int, Any], Area]
    canvas: tuple[int, int]

    def row(self, label: int) -> int:
        return self.rows[label] if label < len(self.rows) else row_of_label(label)

    def area(self, label: int, uuid: Any) -> Area | None:
        return self.areas.get((label, uuid))


def row_of_label(label: int) -> int:
    return SUBJECT if label == 0 else NULL


def read_conditions(guider_conds: Mapping[str, Conds], lists: Sequence[Conds], canvas: tuple[int, int]) -> Conditions:
    """guider_conds: the guider's cond lists by name ("positive", "negative", ...); lists: those of this batch, by label."""
    rows = tuple(_row(guider_conds, conds, label) for label, conds in enumerate(lists))
    areas = {
        (label, cond.get("uuid")): tuple(cond["area"])
        for label, conds in enumerate(lists)
        for cond in conds or ()
        if len(cond.get("area") or ()) == 4 and isinstance(cond["area"][0], int)
    }
    return Conditions(rows, areas, canvas)


def _row(guider_conds: Mapping[str, Conds], conds: Conds, label: int) -> int:
    for name, known in guider_conds.items():
        if conds is not None and known is conds:
            return _row_of_name(name)
    # Context windows remake the lists. Area conds and their automatic negatives share a uuid: then only the label is left.
    uuid = conds[0].get("uuid") if conds else None
    names = {
        name for name, known in guider_conds.items() for cond in known or () if uuid is not None and cond.get("uuid") == uuid
    }
    rows = {_row_of_name(name) for name in names}
    return rows.pop() if len(rows) == 1 else row_of_label(label)


def _row_of_name(name: str) -> int:
    return NULL if name == "negative" else SUBJECT
