"""Checkpoint folders of a run: which are complete, how one comes to be, and which older ones go.

A folder takes its name when everything is in it, its progress.json last, so that an interruption leaves none that looks complete.
Only complete ones count as kept, and of those only the files that training writes are ever deleted.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from ..shown import plain
from ..text_files import read_json

_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")
_OURS = re.compile(
    r"(progress\.json|config\.yaml|\w+\.safetensors"
    r"|optimizer\.bin|scaler\.pt|random_states_\d+\.pkl|custom_checkpoint_\d+\.pkl)"  # of earlier versions
)
PROGRESS = "progress.json"


def newest(out: Path) -> Path | None:
    """The newest complete checkpoint of a run. Incomplete ones with a higher number are told in the log and left as they are."""
    found = _complete(out)
    last = max(found, default=0)
    for step, path in sorted(_numbered(out).items()):
        if step > last:
            logging.getLogger(__name__).warning(
                plain(
                    f"{path} is no complete checkpoint (its {PROGRESS} is missing or damaged); it is left as it is and not used."
                )
            )
    return found.get(last)


def step_of(checkpoint: Path) -> int:
    """Of a complete checkpoint."""
    return int(read_json(checkpoint / PROGRESS)["step"])


def save(out: Path, step: int, keep: int, write: Callable[[Path], None]) -> Path:
    """Make the checkpoint of a step, then delete complete older ones except the last `keep`. write: fills the folder."""
    final = out / f"checkpoint-{step}"
    part = out / f".{final.name}.{uuid.uuid4().hex}.part"
    part.mkdir(parents=True)
    try:
        write(part)
        (part / PROGRESS).write_text(json.dumps({"step": step}), encoding="utf-8")
        if final.exists():
            _set_aside(final)
        part.rename(final)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    older = sorted(number for number in _complete(out) if number < step)
    for number in older[: len(older) - keep]:
        _delete(out / f"checkpoint-{number}")
    return final


def _complete(out: Path) -> dict[int, Path]:
    return {step: path for step, path in _numbered(out).items() if _is_complete(path, step)}


def _numbered(out: Path) -> dict[int, Path]:
    found = ((_CHECKPOINT.fullmatch(path.name), path) for path in out.glob("checkpoint-*") if path.is_dir())
    return {int(match[1]): path for match, path in found if match is not None and match[0] == f"checkpoint-{int(match[1])}"}


def _is_complete(path: Path, step: int) -> bool:
    try:
        progress = read_json(path / PROGRESS)
    except (ValueError, OSError):
        return False
    return isinstance(progress, dict) and type(progress.get("step")) is int and progress["step"] == step


def _set_aside(path: Path) -> None:
    """What stands where a checkpoint is to stand keeps its content under another name."""
    number = 1
    while (other := path.with_name(f"{path.name}.set-aside-{number}")).exists():
        number += 1
    path.rename(other)
    logging.getLogger(__name__).warning(plain(f"{path} was there already; it is now {other.name}."))


def _delete(path: Path) -> None:
    """What training wrote; anything else that somebody put there stays, and the folder with it."""
    if path.is_symlink():
        return
    (path / PROGRESS).unlink(missing_ok=True)  # first, so that a half-deleted folder is not complete
    for file in list(path.iterdir()):
        if _OURS.fullmatch(file.name) and not file.is_dir():
            file.unlink()
    if not any(path.iterdir()):
        path.rmdir()
