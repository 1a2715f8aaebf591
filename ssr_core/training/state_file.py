"""The state of an optimizer, of an average, of a run, in a file that holds tensors and plain values and nothing else.

What is nested (dictionaries and lists of tensors, numbers and words) is one safetensors file: the tensors under numbers, and around
them, in the metadata, the nesting as JSON. Files of earlier versions are pickles: torch reads those with weights_only, in which there
were holes before tensor_files.SAFE_PICKLES, so that older versions refuse them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import tensor_files
from ..text_files import check_regular

NESTING = "nesting"


def write(state: Any, path: Path) -> None:
    """Whole or not at all. state: dictionaries, lists and tuples of tensors, numbers, words and None."""
    tensors: dict[str, Tensor] = {}
    nesting = _flatten(state, tensors)
    tensor_files.write(tensors or {"nothing": torch.zeros(0)}, path, {NESTING: json.dumps(nesting)})


def read(path: Path) -> Any:
    """What was written, tensors on the CPU; tuples come back as lists. Raises FileNotFoundError or ValueError that names the file."""
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            nesting = json.loads(file.metadata()[NESTING])
        return _nest(nesting, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged or no state file ({type(error).__name__}). Go on from an earlier checkpoint: move this one away."
        ) from error


def read_any(path: Path) -> Any:
    """A state file of this or an earlier version, which its beginning tells. Raises as read does."""
    check_regular(path)
    with path.open("rb") as file:
        is_pickle = file.read(2) == b"PK"  # torch's pickles are zip files
    return read_pickle(path) if is_pickle else read(path)


def read_pickle(path: Path) -> Any:
    """A state file of an earlier version. Raises as read does."""
    check_regular(path)
    if not tensor_files.reads_pickles():
        raise ValueError(
            f"{path} is a pickle, which is read with torch {'.'.join(map(str, tensor_files.SAFE_PICKLES))} or newer only; this is "
            f"{torch.__version__}. Update torch, or start anew with start_from."
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the restricted unpickler meets damaged bytes with whatever they happen to break
        raise ValueError(
            f"{path} is damaged, or holds something else than tensors and numbers ({type(error).__name__}), which is not read."
        ) from error


def _flatten(state: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(state, Tensor):
        name = str(len(tensors))
        tensors[name] = state
        return {"tensor": name}
    if isinstance(state, dict):
        return {"pairs": [[key, _flatten(value, tensors)] for key, value in state.items()]}
    if isinstance(state, list | tuple):
        return [_flatten(value, tensors) for value in state]
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise TypeError(f"a {type(state).__name__} cannot be kept in a state file")


def _nest(nesting: Any, tensors: dict[str, Tensor]) -> Any:
    nest: Callable[[Any], Any] = lambda part: _nest(part, tensors)
    if isinstance(nesting, list):
        return [nest(part) for part in nesting]
    if isinstance(nesting, dict):
        return tensors[nesting["tensor"]] if "tensor" in nesting else {key: nest(value) for key, value in nesting["pairs"]}
    return nesting
