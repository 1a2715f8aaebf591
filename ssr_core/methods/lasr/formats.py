"""Every file that holds learned subjects: ours, and the authors' own."""

from __future__ import annotations

from pathlib import Path

from ... import tensor_files
from ...neighbours import INVERSION, LASR, kind_of, kind_of_objects
from ...shown import shown
from ...tensor_files import ObjectsError
from . import legacy, subject_file
from .subject import LasrSubjects


def load(path: Path) -> LasrSubjects:
    """The subjects of a file: one of ours, one or several of the authors'. What kind of file it is, its first bytes tell.

    Raises FileNotFoundError, or ValueError that names the file and says what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {shown(path)}. Check the name, or {subject_file.REMEDY}.")
    if not legacy.is_legacy(path):
        return (subject_file.load(path),)
    try:
        return legacy.load(path)
    except ValueError as error:
        if (kind := _otherwise(path)) is None:
            raise
        if kind == INVERSION:
            remedy = f"Put it into models/embeddings, and name it in a prompt: embedding:{shown(path.stem, 60)}."
        else:
            remedy = "Choose a file written by Save Subject (LASR) or ssr-encoder learn, or embeddings of its authors' code."
        raise ValueError(f"{shown(path)} is {kind}, not {LASR}. {remedy}") from error


def _otherwise(path: Path) -> str | None:
    """What a pickle is by its names that is no subject; None where they say nothing."""
    try:
        names, _ = tensor_files.read_names(path)
    except ObjectsError as error:
        kind = kind_of_objects(error.names)
        return None if kind == LASR else kind
    except (ValueError, OSError, MemoryError):  # the reason that was found first is told
        return None
    return kind_of(names, LASR)
