"""The drawn world's tables: selectivity by number of objects and kind of query, ablations, and strength against look and prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..encoder import SSREncoder
from ..hosts.diffusers.base import Base
from ..sheet import heat_picture
from .report import figure, page, plot, table
from .selectivity import Case, Outcome, QueryBy, Scores, Setting, cases, run, scores

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


def report(base: Base, encoder: SSREncoder, ablations: Mapping[str, SSREncoder], count: int, out: Path) -> dict[str, Any]:
    """Run everything on `count` held-out cases each; writes selectivity.json and selectivity.html, returns the JSON's content.

    ablations: name -> encoder trained otherwise. One named "whole picture" is queried with nothing, as it was trained.
    """
    rows: dict[str, Scores] = {}
    pictures: list[Outcome] = []
    plain = Setting()
    jobs: list[tuple[str, SSREncoder, list[Case], Setting]] = []
    for objects in (2, 3, 4):
        wanted = list(cases(count, objects))
        jobs += [
            (f"text query, {objects} objects", encoder, wanted, plain),
            (f"mask query, {objects} objects", encoder, wanted, replace(plain, query_by="mask")),
            (f"text and mask, {objects} objects", encoder, wanted, replace(plain, query_by="both")),
        ]
    pairs = list(cases(count, 2, subjects=2))
    jobs += [
        ("two subjects, joint", encoder, pairs, plain),
        ("two subjects, separate", encoder, pairs, replace(plain, combine="separate")),
    ]
    two = list(cases(count, 2))
    jobs.append(("no query (the whole picture), 2 objects", encoder, two, replace(plain, query_by="nothing")))
    for name, other in ablations.items():
        query_by: QueryBy = "nothing" if name == "whole picture" else "text"
        for objects in (2, 4):
            jobs.append((f"{name}, {objects} objects", other, list(cases(count, objects)), replace(plain, query_by=query_by)))
    for scaling in ("official", "value only"):
        setting = replace(plain, scaling=scaling, own_strength=WEAKER)
        jobs.append((f"subject strength {WEAKER}, {scaling} scaling, 2 objects", encoder, two, setting))
    for name, weights, wanted, setting in tqdm(jobs, desc="tables"):
        outcomes = run(base, weights, wanted, setting)
        rows[name] = scores(outcomes)
        if weights is encoder and name.startswith(("text query, 4", "two subjects, joint")):
            pictures += outcomes[:SHOWN]
    curve = {
        strength: scores(run(base, encoder, two, replace(plain, strength=strength)))
        for strength in tqdm(STRENGTHS, desc="plot")
    }
    found = {
        "count": count,
        "setting": asdict(plain),
        "rows": {name: asdict(row) for name, row in rows.items()},
        "strength": {str(strength): asdict(row) for strength, row in curve.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "selectivity.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    lines = {
        "look (of what was drawn)": [(strength, row.look) for strength, row in curve.items()],
        "prompt obeyed": [(strength, row.prompt) for strength, row in curve.items()],
    }
    body = [
        table(["setting", *COLUMNS], [[name, *(getattr(row, column) for column in COLUMNS)] for name, row in rows.items()]),
        "<ul>" + "".join(f"<li><b>{name}</b>: {meaning}</li>" for name, meaning in MEANING.items()) + "</ul>",
        "<h2>Strength</h2>",
        plot(lines, "strength"),
        "<h2>Pictures</h2>",
        *(_outcome(outcome) for outcome in pictures),
    ]
    (out / "selectivity.html").write_text(page("Selectivity in the drawn world", body), encoding="utf-8")
    return found


def _outcome(outcome: Outcome) -> str:
    verdict = f"{outcome.case.prompt}: look {_verdict(outcome.look_right)}, prompt {'yes' if outcome.prompt_obeyed else 'no'}"
    references = [
        figure(wanted.scene.drawn.picture, f"query: {wanted.kind}") + figure(heat_picture(subject), "attention map")
        for wanted, subject in zip(outcome.case.wanted, outcome.subjects, strict=True)
    ]
    return f"<div>{''.join(references)}{figure(outcome.picture, verdict)}</div>"


def _verdict(right: Sequence[bool]) -> str:
    return ", ".join("yes" if one else "no" for one in right)
