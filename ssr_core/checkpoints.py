"""The door to weight files of every method: which method they are of, and what they hold: a module, or learned subjects.

By a file's own description where it has one, else by the names of its tensors (neighbours.py). What a method's files look like inside is
its own business (methods/*/formats.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from . import tensor_files
from .methods.elite import formats as elite
from .methods.elite import parts as elite_parts
from .methods.lasr import formats as lasr
from .methods.lasr import subject_file
from .methods.lasr.subject import LasrSubjects
from .methods.mip import formats as mip
from .methods.ssr import formats as ssr
from .neighbours import ELITE, IP_ADAPTER, LASR, MIP, SSR, kind_of, kind_of_objects
from .shown import shown
from .tensor_files import ObjectsError

Kind = Literal["ssr", "mip", "elite", "lasr"]
NAMES: Mapping[Kind, str] = {"ssr": SSR, "mip": MIP, "elite": ELITE, "lasr": LASR}
"""What messages call files of each method."""

_FORMATS: Mapping[str, Kind] = {
    ssr.FORMAT: "ssr",
    mip.FORMAT: "mip",
    elite_parts.FORMAT: "elite",
    subject_file.FORMAT: "lasr",
}
_KINDS: Mapping[str, Kind] = {SSR: "ssr", MIP: "mip", IP_ADAPTER: "mip", ELITE: "elite", LASR: "lasr"}
"""A plain IP-Adapter is an MIP-Adapter that learned no gates."""


def kind(paths: Sequence[Path]) -> Kind:
    """Which method the files are of that something was published as. Raises FileNotFoundError, or ValueError that says what they are
    instead, or that they are of two methods."""
    found = {path: _kind(path) for path in map(Path, paths)}
    kinds = set(found.values())
    if len(kinds) != 1:
        listed = " and ".join(f"{shown(path)} ({NAMES[one]})" for path, one in found.items()) or "no file"
        raise ValueError(f"Expected the files of one method, got {listed}. Give those of one.")
    return kinds.pop()


def load(paths: Sequence[Path]) -> nn.Module | LasrSubjects:
    """What the files hold, in their own type: an SSREncoder, an MIPAdapter, an Elite, or the subjects that LASR learned. Raises as `kind`
    and its formats do."""
    loaders: Mapping[Kind, Callable[[], Any]] = {
        "ssr": lambda: ssr.load(paths),
        "mip": lambda: mip.load(alone(paths)),
        "elite": lambda: elite.load(paths),
        "lasr": lambda: lasr.load(alone(paths, "lasr")),
    }
    return loaders[kind(paths)]()


def alone(paths: Sequence[Path], kind: Kind = "mip") -> Path:
    """The file of a method that is published as one."""
    if len(paths) != 1:
        name = NAMES[kind]
        raise ValueError(f"{name[0].upper()}{name[1:]} is one file, got {len(paths)}. Give it alone.")
    return Path(paths[0])


def _kind(path: Path) -> Kind:
    try:
        names, metadata = tensor_files.read_names(path)
    except ObjectsError as error:
        other = kind_of_objects(error.names)
        if other is not None and other in _KINDS:  # whole modules, as LASR's authors save them
            return _KINDS[other]
        raise ValueError(f"{error} By their names this is {other}." if other else str(error)) from error
    form = metadata.get("format", "")
    if form in _FORMATS:
        return _FORMATS[form]
    by_names = kind_of(names) or ""
    if by_names in _KINDS:
        return _KINDS[by_names]
    told = by_names or (f'a file of format "{shown(form)}"' if form not in ("", "pt") else "nothing known")
    raise ValueError(
        f"{shown(path)} is {told} by its names ({tensor_files.listed(list(names))}); expected weights of one of the methods: "
        f"{', '.join(NAMES.values())}."
    )
