"""MIP-Adapter's tables over the drawn world: ways to merge several objects, each from its own reference, and strengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..hosts.diffusers.base import Base
from ..merge import Combine
from ..methods.mip.adapter import MIPAdapter
from ..methods.mip.objects import MERGES
from ..methods.ssr.encoder import SSREncoder
from .drawn import Curve, Measured, Tables
from .mip import MIPDrawer
from .rows import PICTURES, CaseSet, Row
from .selectivity import QueryBy, Setting
from .ssr import SHOWN, SSRDrawer, SSRSetting

COLUMNS = ("look", "confused", "look_strict", "colours", "pattern", "all_drawn", "classes", "background", "prompt")
SHORT: dict[Combine, str] = {"by word, gated": "gated", "by word": "no-gate", "separate": "sum", "joint": "joint"}
"""A merge's name in its row's."""
TOLD: dict[Combine, str] = {
    "by word, gated": "MIP's merge: by word, gated",
    "by word": "by word, no gate",
    "separate": "sum",
    "joint": "joint",
}
STRENGTH = "strength"
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25)
SSR = "ssr"
"""Whose weights the row of the SSR-Encoder has."""


@dataclass(frozen=True)
class MIPSetting(Setting):
    """A reference is cut out by its mask and called by its class, as in training."""

    query_by: QueryBy = "both"
    combine: Combine = MERGES[0]


def rows() -> dict[str, Row]:
    """Every row by its short name. All compare on the same cases: each object is one of two in its own reference."""
    plain = MIPSetting()
    found: dict[str, Row] = {}
    for count, told in ((2, "two"), (3, "three")):
        of = CaseSet(2, count)
        for combine in MERGES:
            title = f"{told} objects, {TOLD[combine]}"
            found[f"{SHORT[combine]}-{count}"] = Row("merges", title, of, replace(plain, combine=combine))
        by_word = SSRSetting(query_by="both", combine="by word")
        found[f"ssr-by-word-{count}"] = Row("merges", f"{told} objects, SSR-Encoder by word", of, by_word, SSR)
        found[f"no-subject-{count}"] = Row("merges", f"{told} objects, the prompt alone", of, replace(plain, strength=0.0))
    for strength in STRENGTHS:
        setting = replace(plain, strength=strength)
        found[f"strength-{strength:g}"] = Row(STRENGTH, str(strength), CaseSet(2, 2), setting)
    for count, told in ((2, "Two"), (3, "Three")):
        found[f"pictures-{count}"] = Row(PICTURES, f"{told} objects", CaseSet(2, count, count=SHOWN), plain)
    return found


def tables(base: Base, adapter: MIPAdapter, encoder: SSREncoder, described: Mapping[str, Row]) -> Tables:
    """encoder: of the rows that measure the SSR-Encoder; described: what rows() says."""
    drawers: dict[Setting, MIPDrawer | SSRDrawer] = {}

    def drawer(row: Row) -> MIPDrawer | SSRDrawer:
        setting = row.setting
        if setting not in drawers:
            if isinstance(setting, SSRSetting):
                drawers[setting] = setting.drawer(base, encoder)
            elif isinstance(setting, MIPSetting):
                drawers[setting] = MIPDrawer(base, adapter, setting.combine)
        return drawers[setting]

    columns = {row.table: COLUMNS for row in described.values()}
    curve = Curve("strength.svg", "Two objects, by strength", "strength", _by_strength)
    return Tables("mip", described, drawer, columns, (curve,))


def _by_strength(found: Mapping[str, Mapping[str, Measured]]) -> dict[str, list[tuple[float, float]]]:
    rows = found.get(STRENGTH, {})
    return {
        label: [(float(strength), row[column]) for strength, row in rows.items()]
        for label, column in (("look (of what was drawn)", "look"), ("both drawn", "all_drawn"), ("prompt obeyed", "prompt"))
        if rows
    }
