"""Tensor files read safely and written whole: safetensors in and out, pickles of tensors in.

Knows files and nothing of what is in them: which names and shapes are right, the caller knows (a method's formats.py).
Pickles are read with weights_only and no other way. A file takes its name only when all of it is on the disk.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".sft")
"""How names of safetensors files end. Every other file is read as a pickle."""

REMEDY = "download it again (install.py --download)"


def read(path: Path, remedy: str = REMEDY) -> tuple[State, dict[str, str]]:
    """Tensors of one file under its own names, and its metadata (a pickle has none).

    remedy: what the reader of an error can do, after "Check the name, or". Raises ValueError or FileNotFoundError that names the file.
    """
    with _named(path, remedy):
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                # Cloned: tensors of an open file share its bytes, which another program may overwrite.
                return {key: file.get_tensor(key).clone() for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ValueError(f"{path} holds {type(content).__name__}; expected a dictionary of named tensors; {remedy}.")
    return dict(content), {}


def read_together(paths: Sequence[Path], remedy: str) -> tuple[State, dict[str, str], str]:
    """Tensors and metadata of several files that belong together, and what messages call these files.

    remedy: what to give instead where two of them hold the same tensor. Raises ValueError for that, and as read does.
    """
    tensors: State = {}
    metadata: dict[str, str] = {}
    for path in paths:
        found, described = read(Path(path))
        if twice := sorted(tensors.keys() & found.keys()):
            listed = ", ".join(twice[:4]) + (f" and {len(twice) - 4} more" if len(twice) > 4 else "")
            raise ValueError(f"{path} repeats {listed} of the other file. {remedy}")
        tensors.update(found)
        metadata.update(described)
    return tensors, metadata, " and ".join(str(path) for path in paths)


def read_metadata(path: Path, remedy: str = REMEDY) -> dict[str, str]:
    """What a file says about itself, without its tensors. Raises as read does."""
    with _named(path, remedy):
        if not _is_safetensors(path):
            return {}
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}


def write(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """One safetensors file of tensors on any device and in any memory layout, whole or not at all (written_whole)."""
    own: State = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory.
        own[name] = plain.clone() if plain.untyped_storage().data_ptr() in storages else plain
        storages.add(plain.untyped_storage().data_ptr())
    with written_whole(path) as part:
        save_file(own, part, metadata=dict(metadata) if metadata else None)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; the file takes its name when the with-block ends.

    If the block fails, what was there stays as it was and no other file remains. Links are followed, as in ordinary writing.
    """
    final = Path(os.path.realpath(path))
    part = final.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.touch(exist_ok=False)
        permissions = part.stat().st_mode
        yield part
        part.chmod(permissions)  # safetensors 0.8 leaves a file that only its owner may read
        with part.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with an empty file
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


@contextmanager
def _named(path: Path, remedy: str) -> Iterator[None]:
    """Errors while a file is read, in words that name it."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the name, or {remedy}.")
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        # EINVAL: torch seeks to before the start of a truncated zip file. Other errors of the system are not the file's fault, such as
        # no permission to read it.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        # On damaged bytes the restricted unpickler raises whatever happens to break: KeyError, IndexError, UnicodeError, ...
        reason = f"SafetensorError: {error}" if isinstance(error, SafetensorError) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read: it is damaged or incomplete ({reason}), or not a file of tensors alone; {remedy}."
        ) from error
