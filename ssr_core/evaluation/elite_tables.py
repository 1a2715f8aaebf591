"""ELITE's tables over the drawn world: how much of the look comes through, and how much the prompt may still change, by the strength of the
local branch (lambda) and the number of words: the trade-off of Wei et al. (arXiv 2302.13848), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..hosts.diffusers.base import Base
from ..methods.elite.mapper import Elite
from ..methods.ssr.encoder import SSREncoder
from ..shown import percent
from .drawn import Curve, Measured, Tables
from .elite import ELITEDrawer
from .rows import PICTURES, CaseSet, Row
from .selectivity import QueryBy, Setting
from .ssr import SHOWN, SSRDrawer, SSRSetting

LOOK, EDIT = "look", "edit"
"""The tables: of prompts that tell the background, and of such that tell a colour too."""
COLUMNS = {
    LOOK: ("look", "look_strict", "colours", "pattern", "classes", "background", "prompt"),
    EDIT: ("background", "told", "edit", "classes", "prompt", "look"),
    PICTURES: (),
}
LAMBDAS = (0.0, 0.4, 0.8, 1.2)
"""0: the words alone, without the local branch."""
WORDS = {1: "one word", 5: "five words"}
BASE = "base"
"""The row of the base without a subject: what the prompt alone can do."""


@dataclass(frozen=True)
class ELITESetting(Setting):
    """strength: lambda. The mask marks the subject; the word stands in the place of its class's name."""

    query_by: QueryBy = "both"
    words: int = 1


def rows() -> dict[str, Row]:
    """Every row by its short name, such as look-0.8-1: lambda 0.8, one word."""
    found: dict[str, Row] = {}
    plain = ELITESetting()
    for table in (LOOK, EDIT):
        of = CaseSet(2, told=table == EDIT)
        alone = SSRSetting(strength=0.0)
        found[f"{table}-{BASE}"] = Row(table, "no subject: the class's name in the prompt", of, alone, BASE)
        for words in WORDS:
            for strength in LAMBDAS:
                short = f"{table}-{f'{strength:g}' if strength else 'global'}-{words}"
                setting = replace(plain, strength=strength, words=words)
                found[short] = Row(table, title(strength, words), of, setting)
    for words in WORDS:
        setting = replace(plain, strength=0.8, words=words)
        told = f"A told colour, {title(0.8, words)}"
        found[f"pictures-{words}"] = Row(PICTURES, told, CaseSet(2, told=True, count=SHOWN), setting)
    return found


def title(strength: float, words: int) -> str:
    return f"{f'local, lambda {strength:g}' if strength else 'global only'}, {WORDS[words]}"


def needs_local(row: Row) -> bool:
    """Whether a row takes the local mapper."""
    return isinstance(row.setting, ELITESetting) and row.setting.strength > 0


def tables(base: Base, elite: Elite, encoder: SSREncoder, described: Mapping[str, Row]) -> Tables:
    """encoder: draws the rows without a subject, in which it has no part; described: what rows() says."""
    drawers: dict[int, ELITEDrawer] = {}
    bare = SSRDrawer(base, encoder)

    def drawer(row: Row) -> ELITEDrawer | SSRDrawer:
        if not isinstance(row.setting, ELITESetting):
            return bare
        words = row.setting.words
        if words not in drawers:
            drawers[words] = ELITEDrawer(base, elite, words=words)
        return drawers[words]

    curve = Curve("colours_and_edit.svg", "Exact colours against edit", "background and told colour obeyed", _trade, percent)
    return Tables("elite", described, drawer, COLUMNS, (curve,))


def _trade(found: Mapping[str, Mapping[str, Measured]]) -> dict[str, list[tuple[float, float]]]:
    """One line for each number of words, from lambda 0 on, through what both tables have."""
    look, edit = found.get(LOOK, {}), found.get(EDIT, {})
    lines = {}
    for words, named in WORDS.items():
        titles = [title(strength, words) for strength in LAMBDAS]
        points = [(edit[name]["edit"], look[name]["colours"]) for name in titles if name in look and name in edit]
        if points:
            lines[f"both colours exact, {named}, lambda from {LAMBDAS[0]:g} to {LAMBDAS[-1]:g}"] = points
    return lines
