"""The drawn world's tables: a method's rows (ssr.py), strength against look and prompt, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..tensor_files import written_whole
from ..text_files import read_json
from .drawer import Drawer
from .report import figure, page, plot, table
from .selectivity import Case, Outcome, Setting, run, scores

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


@dataclass(frozen=True)
class Row:
    """One line of a table: which weights, on which cases, how."""

    drawer: Drawer[Any]
    cases: list[Case]
    setting: Setting


@dataclass(frozen=True)
class Tables:
    """What a method measures. rows: by name; strength: rows by their strength; shown: rows whose pictures the page shows."""

    rows: Mapping[str, Row]
    strength: Mapping[str, Row]
    shown: Sequence[Row]


def report(tables: Tables, out: Path) -> dict[str, Any]:
    """Run everything; writes selectivity.json, .html and strength.svg, returns the JSON's content.

    Rows that the folder already has for the same weights, cases and setting are kept, so an interrupted run goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "selectivity.json"
    known = read_json(file) if file.exists() else {}
    if not isinstance(known, dict) or not all(isinstance(rows, dict) for rows in known.values()):
        raise ValueError(f"{file} holds no table of this command. Give another --out, or move the file away.")
    found: dict[str, dict[str, Any]] = {"rows": {}, "strength": {}}
    for kind, rows in (("rows", tables.rows), ("strength", tables.strength)):
        for name, row in tqdm(rows.items(), desc=kind):
            about = {
                "encoder": row.drawer.fingerprint,
                "base": row.drawer.base_fingerprint,
                "setting": asdict(row.setting),
                "cases": len(row.cases),
            }
            measured = known.get(kind, {}).get(name, {})
            if not about.items() <= measured.items():
                measured = asdict(scores(run(row.drawer, row.cases, row.setting))) | about
            found[kind][name] = measured
            # Rows not reached yet stay, so that another interruption loses none.
            _write(file, {each: known.get(each, {}) | found[each] for each in found})
    _write(file, found)
    shown = [outcome for row in tables.shown for outcome in run(row.drawer, row.cases, row.setting)]
    lines = {
        label: [(float(strength), row[column]) for strength, row in found["strength"].items()]
        for label, column in (("look (of what was drawn)", "look"), ("prompt obeyed", "prompt"))
    }
    curve = plot(lines, "strength")
    (out / "strength.svg").write_text(curve, encoding="utf-8")
    (out / "selectivity.html").write_text(_html(found["rows"], curve, shown), encoding="utf-8")
    return found


def _write(file: Path, found: Any) -> None:
    with written_whole(file) as part:
        part.write_text(json.dumps(found, indent=2), encoding="utf-8")


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
        figure(wanted.scene.drawn.picture, f"query: {wanted.kind}") + figure(selection.shown(), "attention map")
        for wanted, selection in zip(outcome.case.wanted, outcome.selections, strict=True)
    ]
    return f"<div>{''.join(references)}{figure(outcome.picture, verdict)}</div>"


def _verdict(right: Sequence[bool]) -> str:
    return ", ".join("yes" if one else "no" for one in right)
