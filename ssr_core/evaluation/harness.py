"""Runs a benchmark: lets a drawer draw every picture that is not there yet, then scores all and writes one JSON and one HTML report.

Processes divide the pictures by number, or the entries where a method has much to do for each; a picture's noise follows from its own
number, so that neither the number of processes nor an interruption changes a pixel.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .. import samplers
from ..new_files import named_new
from ..pictures import open_picture
from ..shown import plain
from ..tensor_files import written_whole
from ..text_files import check_regular, read_json
from .datasets import Concept, Entry
from .drawer import Drawer, Reference, Sampling, Selected
from .report import write_benchmark
from .scorers import ClipScorer, DinoScorer, likeness


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


def first_picture(concept: Concept) -> Reference:
    return Reference(open_picture(concept.pictures[0]), concept.word)


@dataclass(frozen=True)
class Scheme:
    """What a benchmark's authors do in their own way (concept101.py). reference: how a concept is shown to a drawer; told: about this
    and the scoring, in run.json; score: of an entry, besides the scores that every benchmark gets; whole_entries: whether shards divide
    entries instead of pictures, for methods to which a concept costs more than its pictures.
    """

    reference: Callable[[Concept], Reference] = first_picture
    told: Mapping[str, Any] = field(default_factory=dict)
    score: Callable[[Scored, ClipScorer, DinoScorer], Mapping[str, float]] | None = None
    whole_entries: bool = False


@dataclass(frozen=True)
class Scored:
    """An entry with what was drawn for it: the picture and the prompt of every task, in the tasks' order."""

    entry: Entry
    pictures: tuple[Image.Image, ...]
    prompts: tuple[str, ...]
    copies: tuple[int, ...]


PLAIN = Scheme()
RUN = "run.json"
SCORES = "scores"
"""Under this name run.json has what came out, which tells no run from another."""


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
    scheme: Scheme = PLAIN,
) -> int:
    """Draw this shard's missing pictures; returns how many were drawn. Raises ValueError if `out` holds another run's."""
    _same_run(out, protocol, entries, drawer, scheme)
    order = {entry.name: number for number, entry in enumerate(entries)}
    mine = [
        task
        for task in tasks(entries, protocol)
        if (order[task.entry.name] if scheme.whole_entries else task.number) % shards == shard
    ]
    missing = [task for task in mine if not task.path(out).is_file()]
    selected: dict[Concept, Selected] = {}

    def selection(concept: Concept) -> Selected:
        if concept not in selected:
            selected[concept] = drawer.select(scheme.reference(concept))
        return selected[concept]

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
        with written_whole(path) as part:  # an interruption leaves no half picture that would count as drawn
            picture.save(part, format="PNG")
    return len(missing)


def score(
    entries: Sequence[Entry],
    out: Path,
    protocol: Protocol,
    clip: ClipScorer,
    dino: DinoScorer,
    scheme: Scheme = PLAIN,
) -> dict[str, Any]:
    """Score all pictures and write report.json and report.html; returns the report. Raises FileNotFoundError if some are missing.

    With the scheme of a benchmark's authors, their scores stand beside these: in every entry and in "means" under "authors"; run.json
    gets both means.
    """
    absent = [task for task in tasks(entries, protocol) if not task.path(out).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} pictures are not drawn yet, the first is {absent[0].path(out)}. Finish all shards first."
        )
    real: dict[tuple[Concept, Callable[..., Any]], torch.Tensor] = {}
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
                key = (concept, describe)
                if key not in real:
                    real[key] = describe([open_picture(path) for path in concept.pictures])
                alike[name].append(likeness(own, real[key]))
        row: dict[str, Any] = {
            "entry": entry.name,
            "pictures": len(pictures),
            "clip_t": float((by_clip * prompts).sum(-1).mean()),
            **{name: float(np.mean(values)) for name, values in alike.items()},
        }
        if scheme.score is not None:
            of = tuple(entry.prompts[task.prompt] for task, _ in drawn)
            scored = Scored(entry, tuple(pictures), of, tuple(task.copy for task, _ in drawn))
            row["authors"] = dict(scheme.score(scored, clip, dino))
        rows.append(row)
    means: dict[str, Any] = _means(rows)
    if scheme.score is not None:
        means["authors"] = _means([row["authors"] for row in rows])
    report = {"protocol": asdict(protocol), "means": means, "entries": rows}
    with written_whole(out / "report.json") as part:
        part.write_text(json.dumps(report, indent=2), encoding="utf-8")
    if scheme.score is not None and (out / RUN).is_file():
        run = {**read_json(out / RUN), SCORES: means}
        with written_whole(out / RUN) as part:
            part.write_text(json.dumps(run, indent=2), encoding="utf-8")
    shown = [(entry, [task.path(out) for task in tasks([entry], protocol)]) for entry in entries]
    write_benchmark(out / "report.html", report, shown)
    return report


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every entry counts alike."""
    return {name: float(np.mean([row[name] for row in rows])) for name in ("clip_t", "clip_i", "dino")}


def _same_run(out: Path, protocol: Protocol, entries: Sequence[Entry], drawer: Drawer[Any], scheme: Scheme) -> None:
    """Pictures of one folder are all of one run: weights, base, data set and settings. The first shard writes down which."""
    described = {
        "protocol": asdict(protocol),
        "encoder": drawer.fingerprint,
        "base": drawer.base_fingerprint,
        "data": _data_fingerprint(entries),
        **scheme.told,
    }
    described = json.loads(json.dumps(described))  # as a file gives it back: JSON has lists only
    file = out / RUN
    out.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        part = out / f".{uuid.uuid4().hex}.part"
        try:
            part.write_text(json.dumps(described, indent=2), encoding="utf-8")
            named_new(part, file)  # shards that start together never see half of it, and go by the one that was first
        finally:
            part.unlink(missing_ok=True)
    found = read_json(file)
    if not isinstance(found, dict) or not {"protocol", "encoder"} <= found.keys():
        raise ValueError(f"{file} does not say which run the pictures in {out} are of. Give another --out.")
    if absent := sorted(described.keys() - found.keys()):
        logging.getLogger(__name__).warning(
            plain(f"{file} is an earlier version's and does not tell {' and '.join(absent)}: see to it that they are the same.")
        )
    if any(described.get(name) != value for name, value in found.items() if name != SCORES):
        raise ValueError(
            f"{out} holds pictures of another run (other weights, base, data or settings). Give another --out, or delete it."
        )


def _data_fingerprint(entries: Sequence[Entry]) -> str:
    """Of prompts, words and the bytes of the pictures, wherever they lie."""
    digest = hashlib.blake2b(digest_size=16)
    for entry in entries:
        digest.update(repr((entry.name, entry.prompts, [(concept.name, concept.word) for concept in entry.concepts])).encode())
        for concept in entry.concepts:
            for path in concept.pictures:
                check_regular(path, "picture")
                digest.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
    return digest.hexdigest()
