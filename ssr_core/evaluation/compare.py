"""The methods side by side in the drawn world: the same held-out instances, prompts, seeds, steps and guidance, each method at the strength
that does best on other instances (compared_cases.py). A cell that a method cannot fill says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..hosts.diffusers.base import Base
from ..merge import Combine
from ..methods.elite.mapper import Elite
from ..methods.mip.adapter import MIPAdapter
from ..methods.ssr.encoder import SSREncoder
from ..shown import percent
from . import compared_costs, drawn
from .compared_cases import CHOOSING, CHOOSING_PROMPTS, LEARNED_FROM, MEANING, SITUATIONS, ComparedCases, Situation
from .drawer import Drawer
from .drawn import Curve, Measured, Tables
from .elite import ELITEDrawer
from .elite_tables import ELITESetting
from .intervals import bootstrap
from .lasr_tables import LASRSetting, TimedInversion, TimedLASR
from .lasr_tables import seconds as learning_seconds
from .mip import MIPDrawer
from .mip_tables import MIPSetting
from .rows import PICTURES, Row
from .selectivity import Setting, select
from .ssr import SSRDrawer, SSRSetting

STRENGTH = "strength"
"""The table that strengths are chosen by."""
_MEASURED = ("look", "look_strict", "colours", "prompt", "all_drawn")
_COSTS = ("strength", "operations", "memory", "seconds", "size")
COLUMNS: dict[str, Sequence[str]] = {
    "alone": (*_MEASURED, *_COSTS),
    "among": (*_MEASURED, *_COSTS),
    "two": (*_MEASURED, "confused", *_COSTS),
    "edit": ("look", "look_strict", "prompt", "told", "edit", "all_drawn", *_COSTS),
    STRENGTH: ("look", "look_strict", "prompt"),
    PICTURES: (),
}
NOTES = {
    **MEANING,
    STRENGTH: "What strengths are chosen by, on other instances than those of the other tables, alone in their pictures.",
}
PAGES = (4, 2)
"""Instances and prompts of a method's page of pictures."""
NO_GATE: Combine = "separate"
SSR, MIP, ELITE, LASR, INVERSION, NOTHING = "ssr", "mip", "elite", "lasr", "textual-inversion", "base"
"""Whose weights a row has."""
_LEARNS: dict[Situation, str] = {
    "among": f"is learned from {LEARNED_FROM} pictures of the subject; here is one picture, with others in it"
}


@dataclass(frozen=True)
class Method:
    """A line of every table. strengths: what is tried, the first of which is drawn with where nothing was chosen yet; none for a method
    without a strength; pictures: of a subject; cannot: why it fills no cell of a situation."""

    title: str
    weights: str
    setting: Setting
    strengths: tuple[float, ...] = ()
    pictures: int = 1
    cannot: Mapping[Situation, str] = field(default_factory=dict)


_OF_BRANCHES = (0.5, 0.75, 1.0, 1.25)
METHODS: dict[str, Method] = {
    "ssr-words": Method("SSR-Encoder, words", SSR, SSRSetting(query_by="text"), _OF_BRANCHES),
    "ssr-mask": Method("SSR-Encoder, mask", SSR, SSRSetting(query_by="mask"), _OF_BRANCHES),
    "ssr-click": Method("SSR-Encoder, click", SSR, SSRSetting(query_by="click"), _OF_BRANCHES),
    "mip": Method("MIP-Adapter, mask and name", MIP, MIPSetting(), _OF_BRANCHES),
    "elite": Method("ELITE, mask", ELITE, ELITESetting(), (0.0, 0.4, 0.8, 1.2)),
    "lasr": Method(f"LASR, {LEARNED_FROM} pictures", LASR, LASRSetting(), (0.0, 0.25, 0.5, 0.75, 1.0), LEARNED_FROM, _LEARNS),
    "textual-inversion": Method(
        f"Textual Inversion, {LEARNED_FROM} pictures", INVERSION, LASRSetting(), pictures=LEARNED_FROM, cannot=_LEARNS
    ),
    "image-prompt": Method(
        "image prompt, the whole picture",
        MIP,
        MIPSetting(query_by="text", combine=NO_GATE),
        _OF_BRANCHES,
        cannot={"two": "takes one picture for the whole of the new one, and has no place for a second"},
    ),
    "no-subject": Method("no subject: the class's name in the prompt", NOTHING, SSRSetting(strength=0.0)),
}


@dataclass(frozen=True)
class Weights:
    """What there is to compare. bare: draws without a subject; missing: why a method's weights are not there, by name."""

    base: Base
    bare: SSREncoder
    ssr: SSREncoder
    mip: MIPAdapter | None
    elite: Elite | None
    lasr: TimedLASR
    inversion: TimedInversion
    missing: Mapping[str, str]

    def drawer(self, weights: str, setting: Setting) -> Drawer[Any]:
        if weights == SSR and isinstance(setting, SSRSetting):
            return setting.drawer(self.base, self.ssr)
        if weights == MIP and isinstance(setting, MIPSetting) and self.mip is not None:
            return MIPDrawer(self.base, self.mip, setting.combine)
        if weights == ELITE and isinstance(setting, ELITESetting) and self.elite is not None:
            return ELITEDrawer(self.base, self.elite, words=setting.words)
        if weights == NOTHING:
            return SSRDrawer(self.base, self.bare)
        if weights in (LASR, INVERSION):
            return self.lasr if weights == LASR else self.inversion
        raise LookupError(f"{weights} has no weights; its rows are not to be drawn.")


def rows(instances: int, prompts: int) -> dict[str, Row]:
    """Every row by its short name, such as alone-ssr-words, or strength-mip-0.75 of those that the strength is chosen by."""
    found: dict[str, Row] = {}
    for short, method in METHODS.items():
        of = ComparedCases("alone", CHOOSING, CHOOSING_PROMPTS, method.pictures, choosing=True)
        for strength in method.strengths:
            setting = replace(method.setting, strength=strength)
            found[f"{STRENGTH}-{short}-{strength:g}"] = Row(STRENGTH, tried(method, strength), of, setting, method.weights)
    for situation in SITUATIONS:
        for short, method in METHODS.items():
            of = ComparedCases(situation, instances, prompts, method.pictures)
            found[f"{situation}-{short}"] = Row(situation, method.title, of, _begun(method), method.weights)
    for short, method in METHODS.items():
        of = ComparedCases("alone", min(PAGES[0], instances), min(PAGES[1], prompts), method.pictures)
        found[f"{PICTURES}-{short}"] = Row(PICTURES, method.title, of, _begun(method), method.weights)
    return found


def tried(method: Method, strength: float) -> str:
    return f"{method.title}, {strength:g}"


def unfilled(described: Mapping[str, Row], missing: Mapping[str, str]) -> dict[str, str]:
    """Why rows cannot be measured, by short name."""
    found = {short: missing[row.weights] for short, row in described.items() if row.weights in missing}
    for name, method in METHODS.items():
        found |= {f"{situation}-{name}": f"{method.title} {why}." for situation, why in method.cannot.items()}
    return found


def report(
    weights: Weights, described: Mapping[str, Row], names: Sequence[str], out: Path, force: bool = False
) -> tuple[Tables, dict[str, Any]]:
    """Choose the strengths that these rows need, then measure them; writes compare.json, .html, the plot and pictures. Goes on where an
    earlier run was stopped. Raises ValueError as drawn.report does."""
    reasons = unfilled(described, weights.missing)
    needed = {_method_of(name) for name in names if described[name].table != STRENGTH and name not in reasons}
    choosing = [
        short
        for short, row in described.items()
        if row.table == STRENGTH and short not in reasons and (short in names or _method_of(short) in needed)
    ]
    trials = {short: row for short, row in described.items() if row.table == STRENGTH}
    found = drawn.report(tables(weights, trials, reasons), choosing, 0, out, force)
    best = chosen_strengths(found)
    settled = {short: _at(row, best.get(_method_of(short))) for short, row in described.items()}
    measured = tables(weights, settled, reasons)
    return measured, drawn.report(measured, [*choosing, *(name for name in names if name not in choosing)], 0, out, force)


def chosen_strengths(found: Mapping[str, Any]) -> dict[str, float]:
    """By method, of those of which every strength was tried: where look times prompt is best, of equal ones the first. Look is
    counted among what was drawn, and a prompt is obeyed only where the subject was: together about how often a picture is right in both."""
    rows = found.get(STRENGTH, {})
    best = {}
    for name, method in METHODS.items():
        numbers = {strength: rows.get(tried(method, strength)) for strength in method.strengths}
        if numbers and all(map(_measured, numbers.values())):
            best[name] = max(numbers, key=lambda strength: numbers[strength]["look"] * numbers[strength]["prompt"])
    return best


def tables(weights: Weights, described: Mapping[str, Row], reasons: Mapping[str, str]) -> Tables:
    """described: what rows() says, at the strengths that they are to be measured at."""
    drawers: dict[tuple[str, Setting], Drawer[Any]] = {}
    unet = weights.base.unet

    def drawer(row: Row) -> Drawer[Any]:
        key = (row.weights, replace(row.setting, strength=1.0))
        if key not in drawers:
            drawers[key] = weights.drawer(row.weights, row.setting)
        return drawers[key]

    plain: dict[Situation, tuple[int, int]] = {}

    def also(row: Row) -> dict[str, float]:
        assert isinstance(row.of, ComparedCases)
        if row.table == STRENGTH:
            return {}
        situation, case = row.of.situation, row.of.cases(0)[0]
        if situation not in plain:
            bare = METHODS["no-subject"]
            nothing = weights.drawer(bare.weights, bare.setting)
            plain[situation] = (
                compared_costs.operations(nothing, case, bare.setting),
                compared_costs.memory(nothing, unet, None, bare.setting, case.prompt),
            )
        own = drawer(row)
        operations, memory = plain[situation]
        costs: dict[str, float] = {"operations": compared_costs.operations(own, case, row.setting) / operations - 1}
        drawn_with = None if row.weights == NOTHING else case
        costs["memory"] = compared_costs.memory(own, unet, drawn_with, row.setting, case.prompt) - memory
        if row.weights == NOTHING:
            return costs
        if isinstance(own, TimedLASR | TimedInversion):
            taken = learning_seconds(own.lessons.folder).values()
            # Nothing was learned in this folder's time where its files came from elsewhere.
            costs |= {"seconds": sum(taken) / len(taken)} if taken else {}
        else:
            costs["seconds"] = compared_costs.seconds(own, weights.base, case, row.setting)
        if METHODS[_titled(row.title)].strengths:
            costs["strength"] = row.setting.strength
        (first, *_) = select(own, case, row.setting.query_by)
        return costs | {"size": compared_costs.size(first)}

    def identity(row: Row) -> dict[str, Any]:
        assert isinstance(row.of, ComparedCases)
        return {"instances": row.of.instances, "prompts": row.of.prompts, "pictures": row.of.pictures}

    curve = Curve("look_and_prompt.svg", "Look against prompt over strength", "prompt obeyed", _trade, percent)
    return Tables(
        "compare",
        described,
        drawer,
        COLUMNS,
        (curve,),
        also,
        name="compare",
        heading="Methods side by side",
        bounds=bootstrap,
        unfilled=reasons,
        identity=identity,
        notes=NOTES,
    )


def _trade(found: Mapping[str, Mapping[str, Measured]]) -> dict[str, list[tuple[float, float]]]:
    """A line for each method, from its first strength to its last."""
    rows = found.get(STRENGTH, {})
    lines = {}
    for method in METHODS.values():
        titles = [tried(method, strength) for strength in method.strengths]
        if points := [(rows[title]["prompt"], rows[title]["look"]) for title in titles if _measured(rows.get(title))]:
            lines[f"{method.title}, {method.strengths[0]:g} to {method.strengths[-1]:g}"] = points
    return lines


def _measured(row: Measured | None) -> bool:
    return row is not None and drawn.REASON not in row


def _begun(method: Method) -> Setting:
    return replace(method.setting, strength=method.strengths[0]) if method.strengths else method.setting


def _at(row: Row, strength: float | None) -> Row:
    return row if row.table == STRENGTH or strength is None else replace(row, setting=replace(row.setting, strength=strength))


def _method_of(short: str) -> str:
    """Of a row's short name."""
    own = short.partition("-")[2]
    return own if own in METHODS else own.rpartition("-")[0]


def _titled(title: str) -> str:
    return next(name for name, method in METHODS.items() if method.title == title)
