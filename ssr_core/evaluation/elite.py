"""ELITE as a method that can be measured, with its authors' settings (csyxwei/ELITE, inference_local.py).

A benchmark's prompts name the subject by its class; ELITE's word stands in that name's place when pictures are drawn, and scores compare
them with the benchmark's own prompts. Benchmarks come without masks: a folder of them may be given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ..hosts.diffusers import elite, generate
from ..hosts.diffusers.base import Base, fingerprint
from ..methods.elite.framing import FRAMINGS, Framing
from ..methods.elite.mapper import Elite
from ..methods.elite.subject import DEFAULT_LAMBDA, DEFAULT_WORDS, EliteSubject
from ..pictures import open_mask, open_picture
from ..schedule import Manner
from ..sheet import heat_picture
from ..shown import shown
from .datasets import Concept, Entry
from .drawer import Reference, Sampling
from .harness import Protocol, Scheme
from .wording import in_words

PROTOCOL = Protocol(steps=100, guidance=5.0, strength=DEFAULT_LAMBDA, seed=42, sampler="lms")
PLACEHOLDERS = (elite.PLACEHOLDER, "Y", "Z")
"""The words of a prompt's subjects, in order."""


@dataclass(frozen=True)
class SelectedWord:
    """A subject as the shared measurements look at it. names: what a prompt calls it."""

    subject: EliteSubject
    name: str

    def heat(self) -> Tensor:
        return self.subject.map().heat

    def shown(self) -> Image.Image:
        return heat_picture(self.subject.map())


@dataclass
class ELITEDrawer:
    """Both mappers, or the global one alone, and a base. words: how many of a subject's stand in a prompt."""

    base: Base
    elite: Elite
    framing: Framing = FRAMINGS[0]
    words: int = DEFAULT_WORDS
    _pipes: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return self.elite.fingerprint

    @property
    def base_fingerprint(self) -> str:
        return fingerprint(*self.base.models)

    def select(self, reference: Reference) -> SelectedWord:
        (subject,) = elite.encode(
            self.base, self.elite, reference.picture, reference.mask, self.framing, points=reference.points
        )
        return SelectedWord(subject, reference.words)

    def draw(
        self,
        selections: Sequence[Sequence[SelectedWord]],
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Image.Image]:
        if sampling.sampler not in self._pipes:
            self._pipes[sampling.sampler] = generate.pipeline(self.base, sampling.sampler)
        names = [[one.name for one in of_picture] for of_picture in selections]
        latents = elite.sample(
            self._pipes[sampling.sampler],
            self.elite,
            [tuple(one.subject for one in of_picture) for of_picture in selections],
            [in_words(prompt, own, PLACEHOLDERS) for prompt, own in zip(prompts, names, strict=True)],
            generate.noise(self.base, seeds, sampling.size, sampling.size),
            manner=Manner(sampling.strength),
            placeholders=PLACEHOLDERS[: len(selections[0])],
            words=self.words,
            negative=sampling.negative,
            steps=sampling.steps,
            guidance=sampling.guidance,
        )
        return generate.decode(self.base, latents)


def scheme(masks: Path | None, entries: Sequence[Entry]) -> Scheme:
    """How concepts are shown: the first picture of each, with its mask <concept>/<picture>.png from the folder; without a folder the whole
    picture counts as the object. Raises FileNotFoundError that names a mask that is not there."""
    if masks is None:
        return Scheme(told={"masks": "none: the whole picture"})
    concepts = {concept: None for entry in entries for concept in entry.concepts}
    files = {concept: masks / concept.name / f"{concept.pictures[0].stem}.png" for concept in concepts}
    digest = hashlib.blake2b(digest_size=16)
    for path in files.values():
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no mask {shown(path)}. Give a folder with <concept>/<picture>.png of every concept's reference, or leave "
                "--masks out."
            )
        digest.update(path.read_bytes())

    def reference(concept: Concept) -> Reference:
        return Reference(open_picture(concept.pictures[0]), concept.word, open_mask(files[concept]))

    return Scheme(reference, told={"masks": digest.hexdigest()})
