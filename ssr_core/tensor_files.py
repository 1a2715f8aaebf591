"""Tensor files read safely and written whole: safetensors in and out, pickles of tensors in.

Knows files and nothing of what is in them: which names and shapes are right is for those who ask (a method's formats.py). What kind of
file it is, its first bytes tell and not its name. Pickles are read with weights_only, and only where that is safe. A file takes its
name only when all of it is on the disk.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
import stat
import uuid
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .new_files import take_new_name
from .paths import mode_of
from .shown import shown

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
Look = Callable[[str, Shapes, Mapping[str, str]], None]
"""Given how to name a file, what it says it holds, and what it says about itself, before any tensor is read. Raises ValueError to refuse
it."""

SUFFIXES = (".safetensors", ".sft")
"""Of safetensors files, where the first bytes tell nothing."""
WRAPPERS = ("state_dict", "model", "module")
"""Under what other programs keep the weights in a checkpoint, beside steps, optimizers and configurations."""

LARGEST_HEADER = 10_000_000
"""Bytes of a safetensors file's names and metadata: a Stable Diffusion checkpoint has 0.3 million."""
MOST_TENSORS = 20_000
"""In one file: a Stable Diffusion XL checkpoint has 2,500."""
SAFE_PICKLES = (2, 10)
"""The torch version from which on weights_only has no known hole."""

REMEDY = "download it again (install.py --download)"


class ObjectsError(ValueError):
    """A pickle that holds more than tensors. names: of the Python objects it asks for, where they are known."""

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


def read(path: Path, remedy: str = REMEDY, look: Look | None = None) -> tuple[State, dict[str, str]]:
    """Tensors of one file under its own names, and its metadata (a pickle has none).

    remedy: what the reader of an error can do, after "Check the name, or". Raises ValueError, FileNotFoundError or MemoryError that
    names the file.
    """
    with _named(path, remedy):
        kept = _is_safetensors(path)
        if kept:
            _check_header(path)
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                metadata = dict(file.metadata() or {})
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names[: MOST_TENSORS + 1]}
    if not kept:
        tensors = _read_pickle(path, remedy)
        shapes, metadata = {name: tuple(tensor.shape) for name, tensor in tensors.items()}, {}
    _check_count(len(shapes), path)
    if look is not None:
        look(shown(path), shapes, metadata)
    if kept:
        with _named(path, remedy), safe_open(path, framework="pt") as file:
            # Cloned: tensors of an open file share its bytes, which somebody may overwrite.
            tensors = {name: file.get_tensor(name).clone() for name in names}
    return tensors, metadata


def read_together(paths: Sequence[Path], look: Look | None = None) -> tuple[State, dict[str, str], str]:
    """Tensors and metadata of the files that something was published as, and how to name them together in a message.

    Raises as read does, and ValueError where two of them hold the same tensor.
    """
    tensors: State = {}
    metadata: dict[str, str] = {}
    for path in paths:
        found, described = read(Path(path), look=look)
        # A single number is a counter that training left in both.
        if twice := sorted(name for name in tensors.keys() & found.keys() if found[name].ndim):
            raise ValueError(
                f"{shown(path)} repeats {listed(twice)} of the other file. Give each part of one encoder, such as aligner and layers, "
                "once."
            )
        tensors.update(found)
        metadata.update(described)
    return tensors, metadata, " and ".join(shown(path) for path in paths)


def read_names(path: Path, remedy: str = REMEDY) -> tuple[Shapes, dict[str, str]]:
    """The names and shapes of a file's tensors, and its metadata. A pickle is read whole for it. Raises as read does."""
    with _named(path, remedy):
        if _is_safetensors(path):
            _check_header(path)
            with safe_open(path, framework="pt") as file:
                _check_count(len(names := list(file.keys())), path)
                return {name: tuple(file.get_slice(name).get_shape()) for name in names}, dict(file.metadata() or {})
    return {name: tuple(tensor.shape) for name, tensor in _read_pickle(path, remedy).items()}, {}


def read_metadata(path: Path, remedy: str = REMEDY) -> dict[str, str]:
    """What a file says about itself, without its tensors. Raises as read does."""
    with _named(path, remedy):
        if not _is_safetensors(path):
            return {}
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}


MOST_PROVENANCE = 16


def provenance(path: Path, own: Collection[str], remedy: str = REMEDY) -> dict[str, str]:
    """What a file says about itself beyond its format's own entries, such as who made it and when; as it can be shown."""
    found = {name: text for name, text in read_metadata(path, remedy).items() if name not in own}
    return {shown(name, 40): shown(text) for name, text in list(found.items())[:MOST_PROVENANCE]}


def write(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None, new: bool = False) -> None:
    """One safetensors file of tensors on any device and in any memory layout, whole or not at all (written_whole)."""
    own: State = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory.
        own[name] = plain.clone() if plain.untyped_storage().data_ptr() in storages else plain
        storages.add(plain.untyped_storage().data_ptr())
    with written_whole(path, new) as part:
        save_file(own, part, metadata=dict(metadata) if metadata else None)


@contextmanager
def written_whole(path: Path, new: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; the file takes its name when the with-block ends.

    If the block fails, what was there stays as it was and nothing is left over. Links are followed, as writing to them does.
    new: raise FileExistsError where anything of that name is there by then.
    """
    final = Path(path) if new else Path(os.path.realpath(path))
    part = final.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.touch(exist_ok=False)
        permissions = part.stat().st_mode
        yield part
        part.chmod(permissions)  # safetensors 0.8 leaves a file that only its owner may read
        with part.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with an empty file
        if new:
            take_new_name(part, final)
        else:
            os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)


def listed(names: Sequence[str], limit: int = 4) -> str:
    """The first names of a list as a message shows them."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(shown(name, 80) for name in names[:limit]) + more


def reads_pickles() -> bool:
    """Whether this torch's weights_only can be trusted with a file from anywhere."""
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    return found is not None and tuple(int(number) for number in found.groups()) >= SAFE_PICKLES


def _is_safetensors(path: Path) -> bool:
    """By content: a header's length and the brace it starts with. No pickle starts so."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 40:
        return True
    return not start.startswith((b"PK\x03\x04", b"\x80")) and path.suffix.lower() in SUFFIXES


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if LARGEST_HEADER < length <= path.stat().st_size:
        raise _Refused(f"its names and metadata take {length:,} bytes; at most {LARGEST_HEADER:,} are read")


def _check_count(count: int, path: Path) -> None:
    if count > MOST_TENSORS:
        raise ValueError(
            f"{shown(path)} holds more than {MOST_TENSORS:,} tensors; that many are read at most. Is it the right file?"
        )


def _read_pickle(path: Path, remedy: str) -> State:
    with _named(path, remedy):
        if not reads_pickles() and _looks_pickled(path):
            raise _Refused(
                f"it is a pickle, and torch {torch.__version__} does not read those safely (from torch "
                f"{'.'.join(map(str, SAFE_PICKLES))} on it does). Make a safetensors file of it where torch is newer: ssr-encoder convert "
                "FILES --out encoder.safetensors"
            )
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED or member.file_size > path.stat().st_size for member in members):
                raise _Refused("it is a compressed archive, which torch does not write")
        try:
            with path.open("rb") as file:  # given a path, newer torch goes by the name
                content = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if names := _objects(path):
                raise _Objects(names) from error
            raise
    tensors = _tensors_of(content, path)
    if tensors is None:
        raise ValueError(
            f"{shown(path)} holds {type(content).__name__}; expected a dictionary of named tensors, alone or under one of "
            f"{', '.join(WRAPPERS)}; {remedy}."
        )
    for name, tensor in tensors.items():
        lazy = tensor.is_quantized or tensor.is_nested or tensor.is_neg() or tensor.is_conj()
        if lazy or tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"{shown(path)}: {shown(name)} is no plain tensor ({tensor.layout}, {tensor.device}); {remedy}.")
    return tensors


def _looks_pickled(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def _objects(path: Path) -> list[str]:
    """Names of the Python objects that a pickle asks for, read without making any; none where this torch cannot tell."""
    tell = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    try:
        if tell is None:
            return []
        with path.open("rb") as file:
            return sorted(str(name) for name in tell(file))
    except Exception:  # of a damaged file, whatever its bytes break
        return []


def _tensors_of(content: Any, path: Path) -> State | None:
    """The weights in what a pickle holds: tensors by name, or folders of them, or either in a wrapper. None where it is neither.

    Numbers and texts beside them, such as a step, are left out.
    """
    for _ in range(len(WRAPPERS)):
        if not isinstance(content, Mapping) or any(isinstance(value, Tensor) and value.ndim for value in content.values()):
            break
        inside = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        if len(inside) > 1:
            raise ValueError(f"{shown(path)} holds weights under {' and '.join(inside)}. Give a file with one of them alone.")
        if not inside:
            break
        content = content[inside[0]]
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return None
    found: State = {}
    count = 0
    for key, value in content.items():
        if isinstance(value, Tensor):
            count += 1
            found[key] = value.detach()
        elif isinstance(value, Mapping):
            if not all(isinstance(name, str) and isinstance(inner, Tensor) for name, inner in value.items()):
                return None
            count += len(value)
            _check_count(count, path)
            found.update({f"{key}.{name}": inner.detach() for name, inner in value.items()})
        elif not isinstance(value, int | float | str | None):
            return None
    return found if len(found) == count and (found or not content) else None


class _Refused(Exception):
    """Why a file is not read, as the middle of a sentence about it."""


class _Objects(_Refused):
    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"it holds Python objects ({listed(names)}), which could run code, or not tensors alone")
        self.names = names


@contextmanager
def _named(path: Path, remedy: str) -> Iterator[None]:
    """Whatever goes wrong while a file is read, in words that name it."""
    name = shown(path)
    mode = mode_of(path)
    if not stat.S_ISREG(mode):
        if mode and not stat.S_ISDIR(mode):
            kind = "a pipe" if stat.S_ISFIFO(mode) else "a device or the like"
            raise ValueError(f"{name} is {kind}, not a file. Check the name, or {remedy}.")
        raise FileNotFoundError(f"There is no file {name}. Check the name, or {remedy}.")
    try:
        yield
    except MemoryError as error:
        raise MemoryError(_too_large(path, error)) from error
    except _Objects as error:
        raise ObjectsError(f"{name} cannot be read: {error}; {remedy}.", error.names) from error
    except _Refused as error:
        raise ValueError(f"{name} cannot be read: {error}. Else {remedy}.") from error
    except Exception as error:
        # EINVAL: torch seeks to before the start of a truncated zip file. Other errors of the system are not the file's fault, such as
        # no permission to read it.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            if error.errno is not None and error.filename is None:
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
        if isinstance(error, RuntimeError) and re.search(r"can't allocate memory|not enough memory", str(error)):
            raise MemoryError(_too_large(path, error)) from error
        # The restricted unpickler meets damaged bytes with whatever they happen to break: KeyError, IndexError, UnicodeError, ...
        reason = f"SafetensorError: {shown(error)}" if isinstance(error, SafetensorError) else type(error).__name__
        raise ValueError(
            f"{name} cannot be read: it is damaged or incomplete ({reason}), or not a file of tensors alone; {remedy}."
        ) from error


def _too_large(path: Path, error: Exception) -> str:
    size = path.stat().st_size / 1e9
    return (
        f"{shown(path)} ({size:.1f} GB) does not fit into memory ({shown(error)}). Close other programs, or check that it is the right "
        "file."
    )
