"""Runs a benchmark: lets a drawer draw every picture that is not there yet, then scores all and writes one JSON and one HTML report.

Processes divide the pictures by number; each picture's noise follows from its own number, so that neither the number of
processes nor an interruption changes a pixel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .. import samplers
from ..pictures import open_picture
from .datasets import Concept, Entry
from .drawer import Drawer, Reference, Sampling, Selected
from .report import write_benchmark
from .scorers import ClipScorer, DinoScorer


@dataclass(frozen=True)
class Protocol:
    """How pictures are drawn. per_prompt: DreamBooth's protocol draws 4."""

    per_prompt: int = 4
    steps: int = 30
    guidance: float = 5.0
    strength: float = 0.65
    size: int = 512
    seed: int = 0
    negative: str = ""
    sampler: str = samplers.DEFAULT

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.size, self.steps, self.guidance, self.strength, self.negative, self.sampler)


@dataclass(frozen=True)
class Task:
    """One picture to draw. number: counted over the whole benchmark; copy: among those of the same prompt."""

    number: int
    entry: Entry
    prompt: int
    copy: int

    def path(self, out: Path) -> Path:
        return out / "pictures" / self.entry.name / f"{self.prompt:03}_{self.copy}.png"


def tasks(entries: Sequence[Entry], protocol: Protocol) -> Iterator[Task]:
    number = 0
    for entry in entries:
        for prompt in range(len(entry.prompts)):
            for copy in range(protocol.per_prompt):
                yield Task(number, entry, prompt, copy)
                number += 1


def draw(
    entries: Sequence[Entry],
    drawer: Drawer[Selected],
    out: Path,
    protocol: Protocol,
    shard: int = 0,
    shards: int = 1,
) -> int:
    """Draw this shard's missing pictures; returns how many were drawn. Raises ValueError if `out` holds another run's."""
    _same_run(out, protocol, drawer.fingerprint)
    mine = [task for task in tasks(entries, protocol) if task.number % shards == shard]
    missing = [task for task in mine if not task.path(out).is_file()]
    selected: dict[str, Selected] = {}

    def selection(concept: Concept) -> Selected:
        if concept.name not in selected:
            selected[concept.name] = drawer.select(Reference(open_picture(concept.pictures[0]), concept.word))
        return selected[concept.name]

    for task in tqdm(
        missing, desc=f"drawing, shard {shard + 1} of {shards}", initial=len(mine) - len(missing), total=len(mine)
    ):
        (picture,) = drawer.draw(
            [[selection(concept) for concept in task.entry.concepts]],
            [task.entry.prompts[task.prompt]],
            [protocol.seed * 1_000_003 + task.number],
            protocol.sampling,
        )
        path = task.path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        picture.save(part, format="PNG")
        part.replace(path)  # an interruption leaves no half picture that would count as drawn
    return len(missing)


def score(entries: Sequence[Entry], out: Path, protocol: Protocol, clip: ClipScorer, dino: DinoScorer) -> dict[str, Any]:
    """Score all pictures and write report.json and report.html; returns the report. Raises FileNotFoundError if some are missing."""
    absent = [task for task in tasks(entries, protocol) if not task.path(out).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} pictures are not drawn yet, the first is {absent[0].path(out)}. Finish all shards first."
        )
    real: dict[tuple[str, Callable[..., Any]], torch.Tensor] = {}
    rows = []
    for entry in tqdm(entries, desc="scoring"):
        drawn = [(task, open_picture(task.path(out))) for task in tasks([entry], protocol)]
        pictures = [picture for _, picture in drawn]
        by_clip = clip.pictures(pictures)  # [N, D]
        by_dino = dino.pictures(pictures)
        prompts = clip.texts(entry.prompts)[[task.prompt for task, _ in drawn]]
        alike: dict[str, list[float]] = {"clip_i": [], "dino": []}
        for concept in entry.concepts:
            for name, describe, own in (("clip_i", clip.pictures, by_clip), ("dino", dino.pictures, by_dino)):
                key = (concept.name, describe)
                if key not in real:
                    real[key] = describe([open_picture(path) for path in concept.pictures])
                alike[name].append(float((own @ real[key].T).mean()))
        rows.append(
            {
                "entry": entry.name,
                "pictures": len(pictures),
                "clip_t": float((by_clip * prompts).sum(-1).mean()),
                **{name: float(np.mean(values)) for name, values in alike.items()},
            }
        )
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("clip_t", "clip_i", "dino")}
    report = {"protocol": asdict(protocol), "means": means, "entries": rows}
    (out / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    shown = [(entry, [task.path(out) for task in tasks([entry], protocol)]) for entry in entries]
    write_benchmark(out / "report.html", report, shown)
    return report


def _same_run(out: Path, protocol: Protocol, fingerprint: str) -> None:
    """Refuse a folder that holds another run's pictures."""
    described = {"protocol": asdict(protocol), "encoder": fingerprint}
    file = out / "run.json"
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8")) != described:
            raise ValueError(
                f"{out} holds pictures of another run (other weights or settings). Give another --out, or delete it."
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(described, indent=2), encoding="utf-8")
