"""The drawn world's tables: selectivity by number of objects and kind of query, ablations, and strength against look and prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..encoder import SSREncoder
from ..hosts.diffusers.base import Base
from ..merge import COMBINES
from ..schedule import LAYER_PRESETS
from ..sheet import heat_picture
from .report import figure, page, plot, table
from .selectivity import Case, Outcome, QueryBy, Setting, cases, run, scores

COLUMNS = ("look", "look_strict", "colours", "pattern", "prompt", "background", "classes", "map_mass")
MEANING = {
    "look": "the object has the queried instance's look, not that of anything else in the references (of objects whose class was drawn)",
    "look_strict": "the same, an object that was not drawn counting as wrong",
    "colours": "its two commonest colours are exactly the instance's (chance 1 in 28)",
    "pattern": "its pattern is the instance's (chance 1 in 5)",
    "prompt": "every class and the background are as the prompt says",
    "background": "the background is",
    "classes": "a subject's class is there",
    "map_mass": "share of the attention map inside the queried object",
}
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
SHOWN = 12
WEAKER = 0.5
"""Subjects' own strength where official scaling is held against value only."""


class Ablation(NamedTuple):
    """An encoder that was trained otherwise, and how it is to be queried."""

    encoder: SSREncoder
    query_by: QueryBy


@dataclass(frozen=True)
class Row:
    """One line of the table: which encoder, on which cases, how."""

    encoder: SSREncoder
    cases: list[Case]
    setting: Setting


def report(base: Base, encoder: SSREncoder, ablations: Mapping[str, Ablation], count: int, out: Path) -> dict[str, Any]:
    """Run everything on `count` held-out cases each; writes selectivity.json, .html and strength.svg, returns the JSON's content.

    Rows that the folder already has for the same encoder, cases and setting are kept, so an interrupted run goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "selectivity.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found: dict[str, dict[str, Any]] = {"rows": {}, "strength": {}}
    for kind, rows in (("rows", _rows(encoder, ablations, count)), ("strength", _strengths(encoder, count))):
        for name, row in tqdm(rows.items(), desc=kind):
            about = {"encoder": row.encoder.fingerprint, "setting": asdict(row.setting), "cases": count}
            measured = known.get(kind, {}).get(name, {})
            if not about.items() <= measured.items():
                measured = asdict(scores(run(base, row.encoder, row.cases, row.setting))) | about
            found[kind][name] = measured
            # Rows not reached yet stay, so that another interruption loses none.
            file.write_text(json.dumps({each: known.get(each, {}) | found[each] for each in found}, indent=2), encoding="utf-8")
    file.write_text(json.dumps(found, indent=2), encoding="utf-8")
    shown = [*run(base, encoder, list(cases(SHOWN, 4)), Setting()), *run(base, encoder, list(cases(SHOWN, 2, 2)), Setting())]
    lines = {
        label: [(float(strength), row[column]) for strength, row in found["strength"].items()]
        for label, column in (("look (of what was drawn)", "look"), ("prompt obeyed", "prompt"))
    }
    curve = plot(lines, "strength")
    (out / "strength.svg").write_text(curve, encoding="utf-8")
    (out / "selectivity.html").write_text(_html(found["rows"], curve, shown), encoding="utf-8")
    return found


def _rows(encoder: SSREncoder, ablations: Mapping[str, Ablation], count: int) -> dict[str, Row]:
    plain = Setting()
    of = {objects: list(cases(count, objects)) for objects in (2, 3, 4)}
    several = {subjects: list(cases(count, 2, subjects=subjects)) for subjects in (2, 3)}
    rows: dict[str, Row] = {}
    for objects, wanted in of.items():
        rows[f"text query, {objects} objects"] = Row(encoder, wanted, plain)
        rows[f"mask query, {objects} objects"] = Row(encoder, wanted, replace(plain, query_by="mask"))
        rows[f"text and mask, {objects} objects"] = Row(encoder, wanted, replace(plain, query_by="both"))
        rows[f"one click, {objects} objects"] = Row(encoder, wanted, replace(plain, query_by="click"))
    for subjects, wanted in several.items():
        for combine in COMBINES:
            rows[f"{subjects} subjects, {combine}"] = Row(encoder, wanted, replace(plain, combine=combine))
    rows["no query (the whole picture), 2 objects"] = Row(encoder, of[2], replace(plain, query_by="nothing"))
    for scaling in ("official", "value only"):
        setting = replace(plain, scaling=scaling, own_strength=WEAKER)
        rows[f"subject strength {WEAKER}, {scaling} scaling, 2 objects"] = Row(encoder, of[2], setting)
    unnamed = list(cases(count, 2, named=False))
    for layers in LAYER_PRESETS:
        rows[f"layers: {layers}, 2 objects"] = Row(encoder, of[2], replace(plain, layers=layers))
        rows[f"layers: {layers}, 2 objects, the prompt tells the background only"] = Row(
            encoder, unnamed, replace(plain, layers=layers)
        )
    for name, other in ablations.items():
        for objects in (2, 4):
            rows[f"{name}, {objects} objects"] = Row(other.encoder, of[objects], replace(plain, query_by=other.query_by))
    return rows


def _strengths(encoder: SSREncoder, count: int) -> dict[str, Row]:
    wanted = list(cases(count, 2))
    return {str(strength): Row(encoder, wanted, replace(Setting(), strength=strength)) for strength in STRENGTHS}


def _html(rows: Mapping[str, Any], curve: str, shown: Sequence[Outcome]) -> str:
    body = [
        table(["setting", *COLUMNS], [[name, *(row[column] for column in COLUMNS)] for name, row in rows.items()]),
        "<ul>" + "".join(f"<li><b>{name}</b>: {meaning}</li>" for name, meaning in MEANING.items()) + "</ul>",
        "<h2>Strength</h2>",
        curve,
        "<h2>Pictures</h2>",
        *(_outcome(outcome) for outcome in shown),
    ]
    return page("Selectivity in the drawn world", body)


def _outcome(outcome: Outcome) -> str:
    verdict = f"{outcome.case.prompt}: look {_verdict(outcome.look_right)}, prompt {'yes' if outcome.prompt_obeyed else 'no'}"
    references = [
        figure(wanted.scene.drawn.picture, f"query: {wanted.kind}") + figure(heat_picture(subject.map()), "attention map")
        for wanted, subject in zip(outcome.case.wanted, outcome.subjects, strict=True)
    ]
    return f"<div>{''.join(references)}{figure(outcome.picture, verdict)}</div>"


def _verdict(right: Sequence[bool]) -> str:
    return ", ".join("yes" if one else "no" for one in right)
