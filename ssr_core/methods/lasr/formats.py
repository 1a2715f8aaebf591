"""Every file that holds learned subjects: ours, and the authors' own."""

from __future__ import annotations

from pathlib import Path

from ...shown import shown
from . import legacy, subject_file
from .subject import LasrSubjects


def load(path: Path) -> LasrSubjects:
    """The subjects of a file: one of ours, one or several of the authors'. What kind of file it is, its first bytes tell.

    Raises FileNotFoundError, or ValueError that names the file and says what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {shown(path)}. Check the name, or {subject_file.REMEDY}.")
    if legacy.is_legacy(path):
        return legacy.load(path)
    return (subject_file.load(path),)
