"""The drawn world's tables: measures a method's rows (rows.py), keeps what was measured before, and writes tables, curves and pictures."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..shown import percent
from ..tensor_files import written_whole
from ..text_files import read_json
from .drawer import Drawer
from .intervals import Bounds, interval
from .report import figure, page, plot, table
from .rows import PICTURES, Cases, Row
from .selectivity import Case, Outcome, run, scores

MEANING = {
    "look": "the object has the queried instance's look, not that of anything else in the references (of objects whose class was drawn)",
    "look_strict": "the same, an object that was not drawn counting as wrong",
    "colours": "its two commonest colours are exactly the instance's (chance 1 in 28)",
    "pattern": "its pattern is the instance's (chance 1 in 5)",
    "prompt": "every class and the background are as the prompt says",
    "background": "the background is",
    "classes": "a subject's class is there",
    "map_mass": "share of the attention map inside the queried object",
    "all_drawn": "every subject's class is there",
    "confused": "an object that was drawn has another subject's look",
    "told": "the colour that the prompt tells is one of the object's two commonest; an object that was not drawn counts as wrong",
    "edit": "background and told colour are both as the prompt says",
    "seconds": "to make or learn a subject, on the machine that measured",
    "strength": "of the method, in its own measure; chosen on other instances",
    "operations": "of a step of Mini's UNet beyond those of a plain step",
    "memory": "of all tensors but weights while Mini's UNet runs, at the most, beyond those of a plain run",
    "size": "of a subject's file",
}
"""What can be measured, by the name of its column."""
NUMBERS: dict[str, Callable[[float], str]] = {
    "seconds": lambda seconds: f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}",
    "strength": "{:g}".format,
    "operations": lambda share: f"{100 * share:+.1f} %",
    "memory": lambda size: f"{size / 2**20:+.1f} MiB",
    "size": lambda size: f"{size / 1024:.0f} KiB",
}
"""Those that are no shares found in pictures, and how they are written."""
REASON = "reason"
"""In the place of a row's numbers: why it has none."""
Measured = Mapping[str, Any]
"""A row's numbers, and what they were measured with."""


@dataclass(frozen=True)
class Curve:
    """A plot of what was measured. lines: from the rows of every table; none is drawn of no lines; x_shown: how x is written."""

    file: str
    title: str
    x_label: str
    lines: Callable[[Mapping[str, Mapping[str, Measured]]], Mapping[str, Sequence[tuple[float, float]]]]
    x_shown: Callable[[float], str] = "{:.4g}".format


@dataclass(frozen=True)
class Tables:
    """What a method measures. rows: by short name; drawer: what draws one of them; columns: of each table, names of MEANING; also: what
    is measured of a row besides, after it was drawn; name: of the files; bounds: of the intervals; unfilled: why rows cannot be measured,
    by short name; identity: what else tells a row's measurement from another of the same name; notes: what tables are about."""

    method: str
    rows: Mapping[str, Row]
    drawer: Callable[[Row], Drawer[Any]]
    columns: Mapping[str, Sequence[str]]
    curves: Sequence[Curve] = ()
    also: Callable[[Row], Mapping[str, float]] = lambda row: {}
    name: str = "selectivity"
    heading: str = "Selectivity in the drawn world"
    bounds: Bounds = interval
    unfilled: Mapping[str, str] = field(default_factory=dict)
    identity: Callable[[Row], Mapping[str, Any]] = lambda row: {}
    notes: Mapping[str, str] = field(default_factory=dict)


def report(tables: Tables, names: Sequence[str], count: int, out: Path, force: bool = False) -> dict[str, Any]:
    """Measure these rows on `count` cases each; writes JSON, HTML, curves and pictures, returns the JSON's content: the
    measured by table and title.

    What the folder has for the same weights, cases and setting is kept, so an interrupted run goes on and further rows join earlier ones;
    a row that cannot be measured says why, unless it was.
    Raises ValueError where it has something else under a name, unless `force` replaces that.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{tables.name}.json"
    found = _earlier(file, tables.method, force)
    about = {short: _about(tables, row, count) for short, row in tables.rows.items() if short not in tables.unfilled}
    _give_reasons(found, tables, names)
    for short, row in tables.rows.items():
        measured = found.get(row.table, {}).get(row.title)
        if measured is None or short in tables.unfilled:
            continue
        asked = about[short] if short in names else {name: about[short][name] for name in ("encoder", "base")}
        if asked.items() <= measured.items():
            continue
        if not force:
            raise ValueError(
                f'{file} has "{row.title}" of other weights, cases or settings. Give another --out, or --force to replace it.'
            )
        del found[row.table][row.title]
    known: dict[Cases, list[Case]] = {}
    for short in tqdm([name for name in names if name not in tables.unfilled], desc="rows"):
        row = tables.rows[short]
        if row.title in found.get(row.table, {}):
            continue
        if row.of not in known:
            known[row.of] = row.of.cases(count)
        outcomes = run(tables.drawer(row), known[row.of], row.setting)
        if row.table == PICTURES:
            _write(out / f"{short}.html", page(row.title, [_outcome(outcome) for outcome in outcomes]))
            found.setdefault(PICTURES, {})[row.title] = about[short]
        else:
            numbers = asdict(scores(outcomes, tables.bounds)) | dict(tables.also(row)) | about[short]
            found.setdefault(row.table, {})[row.title] = numbers
        _write(file, json.dumps(found, indent=2))
    found = _ordered(found, tables)
    _write(file, json.dumps(found, indent=2))
    _write(out / f"{tables.name}.html", page(tables.heading, _parts(found, tables, out)))
    return found


def told(row: Measured, column: str) -> str:
    """A number of a row with its interval, as people read it; nothing where it was not measured."""
    value = row.get(column)
    if value is None:
        return ""
    if column in NUMBERS:
        return NUMBERS[column](value)
    bounds = row.get("intervals", {}).get(column)
    return percent(value) + (f" ({100 * bounds[0]:.0f} to {100 * bounds[1]:.0f})" if bounds else "")


def measured_rows(found: Mapping[str, Any]) -> dict[str, dict[str, Measured]]:
    """The rows with numbers, by table and title."""
    return {table: rows for table, rows in found.items() if table not in ("method", PICTURES)}


def _earlier(file: Path, method: str, force: bool) -> dict[str, Any]:
    """What a folder holds of this method."""
    known = read_json(file) if file.exists() else {"method": method}
    if not isinstance(known, dict) or not all(_is_table(rows) for name, rows in known.items() if name != "method"):
        raise ValueError(f"{file} holds no table of this command. Give another --out, or move the file away.")
    if (earlier := known.get("method", "of an earlier version")) != method:
        if not force:
            raise ValueError(f"{file} holds tables {earlier!r}, not {method!r}. Give another --out, or --force to replace it.")
        return {"method": method}
    return known


def _give_reasons(found: dict[str, Any], tables: Tables, names: Sequence[str]) -> None:
    """What cannot be measured says so as of now; what can be says nothing of the kind any more."""
    for short, row in tables.rows.items():
        measured = found.get(row.table, {}).get(row.title)
        was_told = measured is not None and REASON in measured
        if short not in tables.unfilled:
            if was_told:
                del found[row.table][row.title]
        elif row.table != PICTURES and (was_told or (measured is None and short in names)):
            found.setdefault(row.table, {})[row.title] = {REASON: tables.unfilled[short]}


def _is_table(rows: Any) -> bool:
    """Whether it is what report writes of a table, so far as pages are made of it."""
    return isinstance(rows, dict) and all(
        _is_reason(row)
        or (
            isinstance(row, dict)
            and {"encoder", "base", "cases"} <= row.keys()
            and all(row.get(column) is None or isinstance(row[column], (int, float)) for column in MEANING)
            and isinstance(row.get("intervals", {}), dict)
            and all(_is_pair(bounds) for bounds in row.get("intervals", {}).values())
        )
        for row in rows.values()
    )


def _is_reason(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() == {REASON} and isinstance(row[REASON], str)


def _is_pair(bounds: Any) -> bool:
    return isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(bound, (int, float)) for bound in bounds)


def _about(tables: Tables, row: Row, count: int) -> dict[str, Any]:
    """What tells a row's measurement from another of the same name."""
    drawer = tables.drawer(row)
    return {
        "encoder": drawer.fingerprint,
        "base": drawer.base_fingerprint,
        "setting": asdict(row.setting),
        "cases": row.of.count or count,
        **tables.identity(row),
    }


def _ordered(found: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    """In the order in which the method lists its rows, whatever the order they were measured in; others last."""
    places = {(row.table, row.title): place for place, row in enumerate(tables.rows.values())}
    order = dict.fromkeys([*(row.table for row in tables.rows.values()), *found])

    def sorted_rows(table: str) -> dict[str, Any]:
        titles = sorted(found[table], key=lambda title: places.get((table, title), len(places)))
        return {title: found[table][title] for title in titles}

    return {"method": tables.method} | {table: sorted_rows(table) for table in order if table in found and table != "method"}


def _parts(found: Mapping[str, Any], tables: Tables, out: Path) -> list[str]:
    parts = []
    for name, rows in measured_rows(found).items():
        columns = tables.columns.get(name, ())
        lines = [
            [title, "", row[REASON]] if REASON in row else [title, row["cases"], *(told(row, column) for column in columns)]
            for title, row in rows.items()
        ]
        parts += [
            f"<h2>{html.escape(name)}</h2>{html.escape(tables.notes.get(name, ''))}",
            table(["", "cases", *columns], lines),
        ]
    used = dict.fromkeys(column for columns in tables.columns.values() for column in columns)
    meanings = "".join(f"<li><b>{name}</b>: {MEANING[name]}</li>" for name in used)
    parts.append(f"<ul>{meanings}</ul><p>In brackets: the interval of 95 %.</p>")
    for curve in tables.curves:
        if drawn := curve.lines(measured_rows(found)):
            svg = plot(drawn, curve.x_label, x_shown=curve.x_shown)
            _write(out / curve.file, svg)
            parts += [f"<h2>{curve.title}</h2>", svg]
    links = [
        f'<li><a href="{short}.html">{row.title}</a></li>'
        for short, row in tables.rows.items()
        if row.title in found.get(PICTURES, {}) and row.table == PICTURES
    ]
    return [*parts, f"<h2>Pictures</h2><ul>{''.join(links)}</ul>"] if links else parts


def _write(file: Path, text: str) -> None:
    with written_whole(file) as part:
        part.write_text(text, encoding="utf-8")


def _outcome(outcome: Outcome) -> str:
    verdict = f"{outcome.case.prompt}: look {_verdict(outcome.look_right)}, prompt {'yes' if outcome.prompt_obeyed else 'no'}"
    references = [
        figure(wanted.scene.drawn.picture, f"query: {wanted.kind}") + figure(selection.shown(), "attention map")
        for wanted, selection in zip(outcome.case.wanted, outcome.selections, strict=True)
    ]
    return f"<div>{''.join(references)}{figure(outcome.picture, verdict)}</div>"


def _verdict(right: Sequence[bool]) -> str:
    return ", ".join("yes" if one else "no" for one in right)
