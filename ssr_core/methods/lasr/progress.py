"""What a run of learning keeps, so that a later one goes on from it: the subject, and beside it the optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...shown import shown
from . import subject_file
from .learning import Learning, learned_subject
from .recipe import Recipe, class_word
from .subject import LasrSubject
from .subject_file import OptimizerState

STATE_SUFFIX = ".optimizer"
"""Of the state's file, which no list of subjects shows."""


class Progress(NamedTuple):
    subject: LasrSubject
    state: OptimizerState


def state_path(path: Path) -> Path:
    return path.with_suffix(STATE_SUFFIX)


def keep(learning: Learning, begun: LasrSubject, path: Path, provenance: Mapping[str, str] | None = None) -> LasrSubject:
    """Write both files, each whole or not at all, over those that are there. Returns the subject."""
    subject = learned_subject(learning, begun)
    subject_file.save(subject, path, provenance)
    subject_file.save_state(learning.state, subject, state_path(path))
    return subject


def load(path: Path, recipe: Recipe) -> Progress:
    """What keep wrote. Raises ValueError or FileNotFoundError for files that are not there, do not belong together, or were learned by
    another recipe."""
    subject = subject_file.load(path)
    words = recipe.words.split()
    weights = recipe.weights or (1.0,) * len(words)
    own = (tuple(zip(words, map(float, weights), strict=False)), class_word(recipe), recipe.placeholder.strip(), recipe.delta)
    learning = subject.learning
    if own != (learning.words, learning.class_word, subject.placeholder, learning.delta):
        named = ", ".join(f"{shown(word, 40)} {weight:g}" for word, weight in learning.words)
        raise ValueError(
            f'{shown(path)} was learned as "{shown(subject.placeholder, 40)}" from {named} (class {shown(learning.class_word, 40)}). Give '
            "the same words, weights, class word and placeholder to go on, or another file to begin anew."
        )
    return Progress(subject, subject_file.load_state(state_path(path), subject))
