"""What a run of learning keeps, so that a later one goes on from it: the subject, and beside it the optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
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
NEW_STATE_SUFFIX = ".optimizer.new"
"""Of the same until the subject is written to which it belongs, so that whatever cuts keep off leaves two files that fit."""


class Progress(NamedTuple):
    subject: LasrSubject
    state: OptimizerState


def state_path(path: Path) -> Path:
    return path.with_suffix(STATE_SUFFIX)


def keep(learning: Learning, begun: LasrSubject, path: Path, provenance: Mapping[str, str] | None = None) -> LasrSubject:
    """Write both files, each whole or not at all, over those that are there; cut off anywhere, load finds a pair. Returns the subject."""
    subject, new = learned_subject(learning, begun), path.with_suffix(NEW_STATE_SUFFIX)
    subject_file.save_state(learning.state, subject, new)
    subject_file.save(subject, path, provenance)
    new.replace(state_path(path))
    return subject


def forget_state(path: Path) -> None:
    """Remove what keep wrote beside a subject that is learned no further."""
    for left in (state_path(path), path.with_suffix(NEW_STATE_SUFFIX)):
        left.unlink(missing_ok=True)


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
    return Progress(subject, _state(path, subject))


def _state(path: Path, subject: LasrSubject) -> OptimizerState:
    new = path.with_suffix(NEW_STATE_SUFFIX)
    if new.is_file():
        with suppress(ValueError):  # of the step that was not written
            return subject_file.load_state(new, subject)
    return subject_file.load_state(state_path(path), subject)
