"""What nodes that write and read files of subjects do alike: who made a file and when, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.shown import shown
from . import checks

Write = Callable[[Path, Mapping[str, str]], None]
"""Of a path and its provenance; raises FileExistsError where there is a file already."""


def write_new(folder: str, filename_prefix: str, *writes: Write) -> dict[str, list[str]]:
    """Write files in output/<folder>, each under a name that nobody has: what the node shows."""
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    provenance = {"made_by": "ComfyUI-SSR-Encoder", "made_at": made}
    prefix = checks.text(filename_prefix, "filename_prefix")
    names = [folders.save_new(folder, prefix, lambda path, write=write: write(path, provenance)) for write in writes]
    return {"text": [f"Saved {', '.join(map(shown, names))}"]}


def described(folder: str, name: str, path: Path, lines: Sequence[str], provenance: Mapping[str, str]) -> dict[str, list[str]]:
    """What the node shows of a file that was read: what is in it, where that comes from, and which files of its name were not read."""
    told = [f"{key.replace('_', ' ')}: {text}" for key, text in sorted(provenance.items())]
    if hidden := folders.hidden_files(folder, name):
        told.append(f"read from {shown(path.parent)}; of the same name, not read: {', '.join(map(shown, hidden))}")
    return {"text": ["\n".join([*lines, *told])]}
