"""LASR and its baseline, Textual Inversion, as methods that can be measured: a concept is learned from all its pictures, then drawn.

What was learned is kept in a folder, a file for each concept, which Load Subject (LASR), and for the baseline any program that knows
embeddings, reads too. A run that was stopped goes on in the middle of a concept (the baseline: at the concept's beginning).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from tqdm import tqdm

from ..faults import told
from ..hosts.diffusers import generate, lasr
from ..hosts.diffusers.base import Base, fingerprint
from ..hosts.diffusers.learning import BaseModels, views_of_pictures
from ..interrupts import stopped_between_steps
from ..methods.lasr import inversion, progress, subject_file
from ..methods.lasr.contexts import ALPHA, checked_alpha
from ..methods.lasr.from_words import one_token
from ..methods.lasr.inversion import InversionLearner
from ..methods.lasr.learning import LayerwiseLearner, Learning, kept_whatever_happens
from ..methods.lasr.recipe import Recipe, begin
from ..methods.lasr.subject import LasrSubject, together
from ..pictures import open_picture
from ..shown import shown
from ..text_files import read_json
from .datasets import Concept, Entry
from .drawer import Reference, Sampling
from .harness import Protocol, Scheme
from .wording import in_words

PROTOCOL = Protocol(steps=50, guidance=5.0, strength=ALPHA, seed=42, sampler="ddim")
"""As askerlee/AdaFace-dev draws for its own measurements (lasr.md, section 11)."""
PLACEHOLDERS = ("z", "y")
"""The words of a prompt's subjects, in order; learned under the first."""
CLASS_WEIGHT = 2.0
"""Of a concept's last word, which says what it is, against 1 of those that say how (the authors: "tabby cat" 1 2)."""
SAVE_EVERY = 500

Made = TypeVar("Made")


@dataclass(frozen=True)
class Told:
    """What describes a concept, where the benchmark's word for it does not do. weights: one for each word, or none for equal ones;
    class_word: one token, or "" for the word of the largest weight."""

    words: str
    weights: tuple[float, ...] = ()
    class_word: str = ""


_TOLD: TypeAdapter[dict[str, Told]] = TypeAdapter(dict[str, Told])


def words_file(path: Path) -> dict[str, Told]:
    """By concept. Raises ValueError that names the file."""
    try:
        return _TOLD.validate_python(read_json(path))
    except ValidationError as error:
        raise ValueError(
            f'{shown(path)} does not tell words ({told(error)}). Expected JSON such as {{"cat2": {{"words": "tabby cat", "weights": [1, '
            "2]}}."
        ) from error


@dataclass(frozen=True)
class Lessons:
    """How concepts are learned. recipe: whose words are each concept's own; told: by concept; side: of a picture in pixels; folder: of
    what was learned; unfinished: of what is being learned, of this process alone."""

    recipe: Recipe
    side: int
    folder: Path
    unfinished: Path
    told: Mapping[str, Told] = field(default_factory=dict)

    def recipe_of(self, name: str, word: str) -> Recipe:
        one = self.told.get(name) or Told(word, (*(1.0 for _ in word.split()[1:]), CLASS_WEIGHT))
        return replace(self.recipe, words=one.words, weights=one.weights, class_word=one.class_word)

    def described(self) -> dict[str, Any]:
        """What run.json says of it, and what tells one way of learning from another."""
        said = asdict(replace(self.recipe, words="-"))
        for own in ("words", "weights", "class_word"):
            del said[own]
        return {
            **said,
            "size": self.side,
            "words": {name: asdict(one) for name, one in sorted(self.told.items())} or "the class",
        }


@dataclass(frozen=True)
class Taught(Generic[Made]):
    """A concept as the shared measurements look at it. concept: whose file it was read from; name: what a prompt calls it."""

    made: Made
    concept: str
    name: str
    picture: Image.Image

    def heat(self) -> Tensor:
        """The same everywhere: nothing in a picture is selected."""
        return torch.ones(1, 1)

    def shown(self) -> Image.Image:
        return self.picture


class LearningDrawer(ABC, Generic[Made]):
    """What both have in common: which file is of which concept, and how pictures of several are drawn."""

    kind: str
    """Part of what files and runs say of themselves."""

    def __init__(self, base: Base, models: BaseModels, lessons: Lessons) -> None:
        self.base, self.models, self.lessons = base, models, lessons
        self.tokens = [one_token(word, models.tokens, "placeholder", "z") for word in PLACEHOLDERS]
        self._pipes: dict[str, Any] = {}

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(repr((self.kind, self.lessons.described())).encode(), digest_size=16).hexdigest()

    @property
    def base_fingerprint(self) -> str:
        return fingerprint(*self.base.models)

    def check(self, entries: Sequence[Entry]) -> None:
        """Before hours of learning: whether every concept can be begun and every prompt says it. Raises ValueError that names it."""
        for entry in entries:
            for concept in entry.concepts:
                try:
                    self.begin(self.lessons.recipe_of(concept.name, concept.word))
                except ValueError as error:
                    raise ValueError(
                        f"{shown(concept.name, 60)}: {error} --words takes a file with other words for it."
                    ) from error
            for prompt in entry.prompts:
                in_words(prompt, [concept.word for concept in entry.concepts], PLACEHOLDERS)

    def select(self, reference: Reference) -> Taught[Made]:
        """What was learned of it, now or before. Raises ValueError for a file of other pictures or of another way to learn."""
        shown_to = (reference.picture, *reference.more)
        recipe = self.lessons.recipe_of(reference.name, reference.words)
        path = self.lessons.folder / f"{reference.name}.safetensors"
        said = {
            "made_by": "ssr-encoder evaluate",
            "recipe": self._identity(recipe),
            "pictures": _pixels_of(shown_to),
            "base": self.base_fingerprint,
        }
        if path.is_file():
            if (found := subject_file.provenance(path)) != said:
                other = " and ".join(sorted(name for name in said if found.get(name) != said[name]))
                raise ValueError(
                    f"{shown(path)} was learned otherwise (another {other}). Give another --subjects, or delete it to learn it anew."
                )
        else:
            self._learn(reference, recipe, path, said, shown_to)
        return Taught(self.load(path), reference.name, reference.words, reference.picture)

    def _identity(self, recipe: Recipe) -> str:
        return hashlib.blake2b(repr((self.kind, recipe, self.lessons.side)).encode(), digest_size=16).hexdigest()

    def _learn(
        self, reference: Reference, recipe: Recipe, path: Path, said: Mapping[str, str], pictures: Sequence[Image.Image]
    ) -> None:
        views = views_of_pictures(self.base, pictures, [None] * len(pictures), self.lessons.side)
        unfinished = self.lessons.unfinished / path.name
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        learning, begun = self.begun(recipe, views, unfinished, said)
        with kept_whatever_happens(lambda: self.keep(learning, begun, unfinished, said)), stopped_between_steps() as stopped, tqdm(
            total=recipe.steps, initial=learning.step, desc=f"learning {reference.name}", mininterval=1
        ) as bar:  # fmt: skip
            for _ in learning.until(recipe.steps):
                bar.update()
                if learning.step % SAVE_EVERY == 0:
                    self.keep(learning, begun, unfinished, said)
                if stopped:
                    raise KeyboardInterrupt
        self.keep(learning, begun, unfinished, said)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(path)
        progress.forget_state(unfinished)

    def draw(
        self,
        selections: Sequence[Sequence[Taught[Made]]],
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Image.Image]:
        if sampling.sampler not in self._pipes:
            self._pipes[sampling.sampler] = generate.pipeline(self.base, sampling.sampler)
        wanted = [
            (own, in_words(prompt, [one.name for one in own], PLACEHOLDERS))
            for own, prompt in zip(selections, prompts, strict=True)
        ]
        noise = generate.noise(self.base, seeds, sampling.size, sampling.size)
        pictures: list[Image.Image] = []
        for _, same in groupby(wanted, key=lambda one: [taught.concept for taught in one[0]]):  # one batch for one's prompts
            (own, *_), texts = zip(*same, strict=True)
            rows = noise[len(pictures) : len(pictures) + len(texts)]
            latents = self.sample(self._pipes[sampling.sampler], [one.made for one in own], list(texts), rows, sampling)
            pictures += generate.decode(self.base, latents)
        return pictures

    @abstractmethod
    def begin(self, recipe: Recipe) -> Any:
        """What a concept is before the first step. Raises ValueError for words that do not do."""

    @abstractmethod
    def begun(self, recipe: Recipe, views: Any, unfinished: Path, said: Mapping[str, str]) -> tuple[Learning, Any]:
        """A run, and what it began with: from the first step, or from what is unfinished of the same recipe and pictures."""

    @abstractmethod
    def keep(self, learning: Learning, begun: Any, path: Path, said: Mapping[str, str]) -> None: ...

    @abstractmethod
    def load(self, path: Path) -> Made: ...

    @abstractmethod
    def sample(self, pipe: Any, made: Sequence[Made], texts: list[str], noise: Tensor, sampling: Sampling) -> Tensor:
        """Latents [B, 4, h, w] of a picture for each text. made: what the texts' placeholders stand for, in order."""


class LASRDrawer(LearningDrawer[LasrSubject]):
    """strength is alpha: 0 draws with the static part alone, 1 with the adaptive one alone."""

    kind = "lasr"

    def begin(self, recipe: Recipe) -> LasrSubject:
        return begin(self.models, recipe)

    def begun(self, recipe: Recipe, views: Any, unfinished: Path, said: Mapping[str, str]) -> tuple[Learning, LasrSubject]:
        kept = None
        if unfinished.is_file() and subject_file.provenance(unfinished) == said:
            kept = progress.load(unfinished, recipe)
        subject = kept.subject if kept else self.begin(recipe)
        learner = LayerwiseLearner(subject, recipe, self.models.device)
        step, state = (subject.learning.step, kept.state) if kept else (0, None)
        return Learning(self.models, learner, recipe, views, (), step, state, self.models.knows_photos), subject

    def keep(self, learning: Learning, begun: LasrSubject, path: Path, said: Mapping[str, str]) -> None:
        progress.keep(learning, begun, path, said)

    def load(self, path: Path) -> LasrSubject:
        return subject_file.load(path)

    def sample(self, pipe: Any, made: Sequence[LasrSubject], texts: list[str], noise: Tensor, sampling: Sampling) -> Tensor:
        named = zip(made, PLACEHOLDERS, self.tokens, strict=False)
        return lasr.sample(
            pipe,
            together(*((one.renamed(word, token),) for one, word, token in named)),
            texts,
            noise,
            checked_alpha(sampling.strength),
            sampling.negative,
            steps=sampling.steps,
            guidance=sampling.guidance,
        )


class InversionDrawer(LearningDrawer[Tensor]):
    """One vector [D] for a concept; nothing has a strength."""

    kind = "textual-inversion"

    def begin(self, recipe: Recipe) -> InversionLearner:
        return InversionLearner(self.models, recipe, recipe.rate)

    def begun(self, recipe: Recipe, views: Any, unfinished: Path, said: Mapping[str, str]) -> tuple[Learning, None]:
        return Learning(self.models, self.begin(recipe), recipe, views, knows_photos=self.models.knows_photos), None

    def keep(self, learning: Learning, begun: None, path: Path, said: Mapping[str, str]) -> None:
        assert isinstance(learning.learner, InversionLearner)
        if learning.step == learning.recipe.steps:  # there is no going on from a vector alone
            inversion.save(learning.learner.module.vector, path, said)

    def load(self, path: Path) -> Tensor:
        return inversion.load(path, self.models.table.shape[1])

    def sample(self, pipe: Any, made: Sequence[Tensor], texts: list[str], noise: Tensor, sampling: Sampling) -> Tensor:
        vectors, count = dict(zip(self.tokens, made, strict=False)), len(texts)
        embeds = lasr.embeds_with_vectors(pipe.tokenizer, pipe.text_encoder, vectors, [*texts, sampling.negative])
        return generate.sample(
            pipe,
            texts,
            noise,
            sampling.negative,
            sampling.steps,
            sampling.guidance,
            prompt=None,
            negative_prompt=None,
            prompt_embeds=embeds[:count],
            negative_prompt_embeds=embeds[count:].expand(count, -1, -1),
        )


def scheme(lessons: Lessons) -> Scheme:
    """A concept is shown by all its pictures, and shards divide concepts, each of which is learned once."""

    def reference(concept: Concept) -> Reference:
        first, *more = (open_picture(path) for path in concept.pictures)
        return Reference(first, concept.word, more=tuple(more), name=concept.name)

    return Scheme(reference, told={"learning": lessons.described()}, whole_entries=True)


def _pixels_of(pictures: Sequence[Image.Image]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for picture in pictures:
        digest.update(repr(picture.size).encode() + np.asarray(picture.convert("RGB")).tobytes())
    return digest.hexdigest()
