"""Names of files as data and arguments give them: a name that no file can have is one that is not there."""

from __future__ import annotations

import errno
from pathlib import Path

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def mode_of(path: Path) -> int:
    """What the path leads to, as os.stat tells it; 0 for nothing, also where the name is too long, goes round in links or holds a null
    character. Raises OSError for what may not be looked at."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno not in _NOTHING:
            raise
    except ValueError:  # a null character
        pass
    return 0
