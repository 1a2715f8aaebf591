"""The field's benchmarks on this disk, in the layout their authors publish: DreamBench and CustomConcept101.

DreamBench (github.com/google/dreambooth): dataset/<subject>/NN.jpg and prompts_and_classes.txt with 25 prompts for objects and 25
for live subjects. CustomConcept101 (github.com/adobe-research/custom-diffusion): dataset.json, dataset_multiconcept.json, prompt
files and benchmark_dataset/<concept>/.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .. import pictures
from ..paths import mode_of
from ..shown import shown
from ..text_files import parse_json, read_json, read_text


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
    listed = _read(folder, Path("prompts_and_classes.txt"))
    classes = _classes(listed)
    objects, live = _prompt_lists(listed)
    chosen = read_json(references) if references is not None else {}
    if not isinstance(chosen, dict):
        raise ValueError(f'{references} holds no choice of references; expected JSON such as {{"backpack": "02"}}.')
    entries = []
    for name, (word, is_live) in classes.items():
        pictures = _pictures(folder, Path("dataset") / name)
        stem = chosen.get(name)
        if stem is not None:
            pictures = sorted(pictures, key=lambda path: path.stem != stem)  # the chosen one first, else as they were
        prompts = tuple(
            " ".join(filled(prompt, ("", word), f"prompts_and_classes.txt, {name}").split())
            for prompt in (live if is_live else objects)
        )
        entries.append(Entry(name, (Concept(name, word, tuple(pictures)),), prompts))
    return entries


def customconcept101(folder: Path, several: bool = False) -> list[Entry]:
    """101 concepts x 20 prompts, or (several) 101 pairs x 12 prompts."""
    name = "dataset_multiconcept.json" if several else "dataset.json"
    listed = parse_json(_read(folder, Path(name)), str(folder / name))
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{folder / name} holds no list of concepts. Download the benchmark as its authors publish it.")
    entries: list[Entry] = []
    for number, item in enumerate(listed, 1):
        where = f"{folder / name}, entry {number}"
        try:
            described: list[dict[str, Any]] = item[:-1] if several else [item]
            concepts = tuple(_concept(folder, fields) for fields in described)
            file = _word(item[-1]["prompt_filename_compose"] if several else item["prompt_filename"])
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{where} is not as its authors publish it ({type(error).__name__}: {error}).") from error
        path = _within(folder, file)
        words = [concept.word for concept in concepts]
        prompts = tuple(
            " ".join(filled(line, words, f"{folder / path}, line {at}").split())
            for at, line in enumerate(_read(folder, path).split("\n"), 1)
            if line.strip()
        )
        known = {entry.name for entry in entries}
        plain = "+".join(concept.name for concept in concepts)
        # Pictures are kept under the name, so no two entries may share it.
        free = next(name for count in itertools.count(1) if (name := plain if count == 1 else f"{plain}-{count}") not in known)
        entries.append(Entry(free, concepts, prompts))
    return entries


def filled(template: str, words: Sequence[str], where: str) -> str:
    """A prompt with its placeholders, {} or {0}, replaced. It is foreign text, so nothing else in braces means anything."""
    numbers = itertools.count()

    def word(found: re.Match[str]) -> str:
        number = int(found[1]) if found[1] else next(numbers)
        if number >= len(words):
            raise ValueError(
                f"{where}: the prompt {template[:80]!r} has more placeholders than the entry has words ({len(words)})."
            )
        return words[number]

    text = re.sub(r"\{(\d{0,3})\}", word, template)
    if "{" in re.sub(r"\{\d{0,3}\}", "", template):
        raise ValueError(
            f"{where}: the prompt {template[:80]!r} has a placeholder that is neither {{}} nor a number, which is not filled in."
        )
    return text


def _concept(folder: Path, fields: dict[str, Any]) -> Concept:
    place = _within(folder, _word(fields["instance_data_dir"]))
    return Concept(place.name, _word(fields["class_prompt"]), tuple(_pictures(folder, place)))


def _word(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError("expected a text")
    return value


def _within(folder: Path, path: str) -> Path:
    """The published lists start their paths above the folder ("./benchmark_dataset/..."); take the part that exists."""
    parts = [part for part in PurePosixPath(path).parts if part not in (".", "..", "/", "//")]
    for start in range(len(parts)):
        found = Path(*parts[start:])
        if not found.is_absolute() and mode_of(folder / found):
            _check_inside(folder, found)
            return found
    raise FileNotFoundError(f"{folder} has no {shown(path)}. Give the folder that holds dataset.json and the pictures.")


def _check_inside(folder: Path, path: Path) -> None:
    """A benchmark may come from anybody: nothing outside its folder is read, also not by a link."""
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / path} leads out of the benchmark's folder, where nothing is read. Copy the file into it.")


def _read(folder: Path, path: Path) -> str:
    _check_inside(folder, path)
    return read_text(folder / path)


def _pictures(benchmark: Path, path: Path) -> list[Path]:
    folder = benchmark / path
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in pictures.SUFFIXES) if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"There are no pictures in {folder}. Download the benchmark as its authors publish it.")
    for picture in found:
        _check_inside(benchmark, picture.relative_to(benchmark))
    return found


def _classes(listed: str) -> dict[str, tuple[str, bool]]:
    """subject -> (class word, whether it lives). The file lists "subject_name,class" lines under "Classes"."""
    found = {}
    for line in listed.split("Prompts")[0].split("\n"):
        if (pair := re.fullmatch(r"\s*(\w+)\s*,\s*([\w ]+?)\s*", line)) and pair[1] != "subject_name":
            found[pair[1]] = (pair[2], pair[2] in ("cat", "dog"))
    if not found:
        raise ValueError("prompts_and_classes.txt lists no subjects; expected lines such as `backpack,backpack`.")
    return found


def _prompt_lists(listed: str) -> tuple[list[str], list[str]]:
    """Prompts for objects and for live subjects, with {0} for the unique token and {1} for the class."""
    lists: list[list[str]] = []
    for line in listed.split("\n"):
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
