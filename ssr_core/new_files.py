"""Files and folders that a command makes: whole or not at all, never over what is there, and checked before the work starts.

A name that is taken gets a number: picture.png, picture-2.png, ... Whoever asks for a file is told which name it got.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from .shown import shown


def check_writable(folder: Path) -> None:
    """Make the folder if it is not there, and see that a file can be written in it. Raises ValueError that names it."""
    trial = folder / f".{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch(exist_ok=False)
        trial.unlink()
    except (OSError, ValueError) as error:  # a ValueError for a name with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"Nothing can be written to {shown(folder)} ({reason}). Give another folder, or the right to."
        ) from error


def check_new(path: Path) -> None:
    """See that a file may have this name in its folder, which is made as check_writable makes it. Raises ValueError that names it."""
    check_writable(path.parent)
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # too long; with a null character
        raise ValueError(f"No file can be named {shown(path)} ({shown(error)}). Give another name.") from error


def write_new(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under this name or, where it is taken, under the next free one; returns the name.

    write: gets a path beside it. Two commands that write at once get two names.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        write(part)
        for number in itertools.count(1):
            final = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            if named_new(part, final):
                return final
    finally:
        part.unlink(missing_ok=True)
    raise AssertionError


def named_new(part: Path, final: Path) -> bool:
    """Give a finished file its name, unless something has it; returns whether it got it."""
    try:
        take_new_name(part, final)
    except FileExistsError:
        return False
    return True


def take_new_name(part: Path, final: Path) -> None:
    """Give a finished file its name. Raises FileExistsError where anything of that name is there, a link that leads nowhere included."""
    try:
        os.link(part, final)  # whole at once, and only where nothing is
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links, such as exFAT
        with final.open("xb"):
            pass
        os.replace(part, final)
    else:
        part.unlink()
