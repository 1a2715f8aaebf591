"""How a finished file takes a name that nobody may have taken before it, whoever else writes at the same time."""

from __future__ import annotations

import os
from pathlib import Path


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
