"""The field's benchmarks on this disk, in the layout their authors publish: DreamBench and CustomConcept101.

DreamBench (github.com/google/dreambooth): dataset/<subject>/NN.jpg and prompts_and_classes.txt with 25 prompts for objects and 25
for live subjects. CustomConcept101 (github.com/adobe-research/custom-diffusion): dataset.json, dataset_multiconcept.json, prompt
files and benchmark_dataset/<concept>/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import pictures


@dataclass(frozen=True)
class Concept:
    """A subject: its word (the query) and all pictures of it. The first picture is the reference; all count as real ones."""

    name: str
    word: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class Entry:
    """Prompts about one or several concepts."""

    name: str
    concepts: tuple[Concept, ...]
    prompts: tuple[str, ...]


def dreambench(folder: Path, references: Path | None = None) -> list[Entry]:
    """30 subjects x 25 prompts. references: JSON {subject: file stem} of the picture to take each subject from."""
    listed = (folder / "prompts_and_classes.txt").read_text(encoding="utf-8")
    classes = _classes(listed)
    objects, live = _prompt_lists(listed)
    chosen = json.loads(references.read_text()) if references is not None else {}
    entries = []
    for name, (word, is_live) in classes.items():
        pictures = _pictures(folder / "dataset" / name)
        stem = chosen.get(name)
        if stem is not None:
            pictures = sorted(pictures, key=lambda path: path.stem != stem)  # the chosen one first, else as they were
        prompts = tuple(" ".join(prompt.format("", word).split()) for prompt in (live if is_live else objects))
        entries.append(Entry(name, (Concept(name, word, tuple(pictures)),), prompts))
    return entries


def customconcept101(folder: Path, several: bool = False) -> list[Entry]:
    """101 concepts x 20 prompts, or (several) 101 pairs x 12 prompts."""
    listed = json.loads((folder / ("dataset_multiconcept.json" if several else "dataset.json")).read_text(encoding="utf-8"))
    entries = []
    for item in listed:
        described: list[dict[str, Any]] = item[:-1] if several else [item]
        concepts = tuple(_concept(folder, fields) for fields in described)
        file = item[-1]["prompt_filename_compose"] if several else item["prompt_filename"]
        lines = [
            line.strip() for line in (folder / _within(folder, file)).read_text(encoding="utf-8").splitlines() if line.strip()
        ]
        words = [concept.word for concept in concepts]
        prompts = tuple(" ".join(line.format(*words).split()) for line in lines)
        entries.append(Entry("+".join(concept.name for concept in concepts), concepts, prompts))
    return entries


def _concept(folder: Path, fields: dict[str, Any]) -> Concept:
    place = folder / _within(folder, fields["instance_data_dir"])
    return Concept(place.name, fields["class_prompt"], tuple(_pictures(place)))


def _within(folder: Path, path: str) -> Path:
    """The published lists start their paths above the folder ("./benchmark_dataset/..."); take the part that exists."""
    parts = [part for part in Path(path).parts if part not in (".", "..")]
    for start in range(len(parts)):
        found = Path(*parts[start:])
        if (folder / found).exists():
            return found
    raise FileNotFoundError(f"{folder} has no {path}. Give the folder that holds dataset.json and the pictures.")


def _pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in pictures.SUFFIXES) if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"There are no pictures in {folder}. Download the benchmark as its authors publish it.")
    return found


def _classes(listed: str) -> dict[str, tuple[str, bool]]:
    """subject -> (class word, whether it lives). The file lists "subject_name,class" lines under "Classes"."""
    found = {}
    for line in listed.split("Prompts")[0].splitlines():
        if (pair := re.fullmatch(r"\s*(\w+)\s*,\s*([\w ]+?)\s*", line)) and pair[1] != "subject_name":
            found[pair[1]] = (pair[2], pair[2] in ("cat", "dog"))
    if not found:
        raise ValueError("prompts_and_classes.txt lists no subjects; expected lines such as `backpack,backpack`.")
    return found


def _prompt_lists(listed: str) -> tuple[list[str], list[str]]:
    """Prompts for objects and for live subjects, with {0} for the unique token and {1} for the class."""
    lists: list[list[str]] = []
    for line in listed.splitlines():
        if re.search(r"prompt_list\s*=\s*\[", line):
            lists.append([])
        elif lists and (quoted := re.search(r"""['"](.*)['"]\.format\(""", line)):
            lists[-1].append(quoted[1])
    if len(lists) != 2 or not all(lists):
        raise ValueError(
            f"prompts_and_classes.txt has {len(lists)} prompt lists; expected one for objects and one for live subjects."
        )
    templates = [[_numbered(prompt) for prompt in prompts] for prompts in lists]
    return templates[0], templates[1]


def _numbered(prompt: str) -> str:
    """ "a {0} {1} in the jungle" from any style of two placeholders."""
    numbers = iter(range(prompt.count("{")))
    return re.sub(r"\{\d*\}", lambda _: f"{{{next(numbers)}}}", prompt)


NAMES = ("dreambench", "customconcept101", "customconcept101-multi")


def named(name: str, folder: Path, references: Path | None = None) -> Sequence[Entry]:
    """Entries of the benchmark of that name, one of NAMES."""
    if name == "dreambench":
        return dreambench(folder, references)
    return customconcept101(folder, several=name == "customconcept101-multi")
