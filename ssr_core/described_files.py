"""Files of what users keep and share, such as subjects: tensors, and in the metadata a description of them as JSON.

A shared file is untrusted: what does not fit together is refused, where names and shapes tell it before a tensor is read, and what would be
refused is not written. Knows this frame alone; which description and tensors are right is for each method's own file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from torch import Tensor

from . import tensor_files
from .faults import told
from .neighbours import kind_of, sent_on
from .shown import shown
from .tensor_files import Shapes

VERSION = "1"
"""Of all formats so far."""

Described = TypeVar("Described")
Content = TypeVar("Content")
One = TypeVar("One", bound=BaseModel)


@dataclass(frozen=True)
class Kind(Generic[Described, Content]):
    """What files of one kind are.

    form: their format in the metadata; key: where the description stands there
    description: how it is checked; check: whether names and shapes bear it out; read: what the tensors are. Both raise ValueError that says
    what is wrong, without the file's name
    is_not, unsaved: how messages go on after the file's name, as in "is not a subject file", and begin, as in "The subject cannot be saved"
    choose, again: what to do, as in "Choose a file written by Save Subject." and "encode the subject again"
    own: what a file of the method is called in neighbours.py, if it is told there
    """

    form: str
    key: str
    description: TypeAdapter[Described]
    check: Callable[[Shapes, Described], None]
    read: Callable[[Mapping[str, Tensor], Described], Content]
    is_not: str
    unsaved: str
    choose: str
    again: str
    own: str | None = None

    @property
    def remedy(self) -> str:
        return f"copy it again or {self.again}"

    def save(
        self, tensors: Mapping[str, Tensor], described: Any, path: Path, provenance: Mapping[str, str] | None, new: bool
    ) -> None:
        """Write one safetensors file. described: what becomes the JSON.

        provenance: what else a reader of the file may want to know, such as who made it and when. new: raise FileExistsError where there
        is a file of that name. What load would refuse is not written: ValueError.
        """
        text = json.dumps(described)
        try:
            self.read(tensors, self._described({self.key: text}))
        except ValueError as error:
            again = f"{self.again.capitalize()}."
            raise ValueError(f"{self.unsaved}, as it could not be read again: {error}. {again}") from error
        own = {"format": self.form, "format_version": VERSION, self.key: text}
        tensor_files.write(tensors, path, {**(provenance or {}), **own}, new)

    def load(self, path: Path) -> Content:
        """Read what save wrote. Raises ValueError that names the file for anything else."""
        tensors, metadata = tensor_files.read(path, self.remedy, self._look)
        try:
            return self.read(tensors, self._described(metadata))
        except ValueError as error:
            raise self._damaged(shown(path), error) from error

    def provenance(self, path: Path) -> dict[str, str]:
        """What was said to save about a file that load can read, such as who made it and when; as it can be shown."""
        return tensor_files.provenance(path, ("format", "format_version", self.key), self.remedy)

    def _look(self, named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
        """Refuse what a file says about itself, before its tensors are read."""
        form = metadata.get("format")
        if form != self.form:
            kind = kind_of(shapes, self.own) if form is None else None
            but = f" but {kind}" if kind else ""
            found = shown(repr("none" if form is None else form), 40)
            raise ValueError(f"{named} {self.is_not}{but} (format {found}).{sent_on(form, f' {self.choose}')}")
        if (version := metadata.get("format_version")) != VERSION:
            raise ValueError(
                f"{named} {self.is_not} that this version of the pack reads: it has format version {shown(version)}; expected "
                f"{VERSION}. Update the pack or {self.again}."
            )
        try:
            self.check(shapes, self._described(metadata))
        except ValueError as error:
            raise self._damaged(named, error) from error

    def _damaged(self, named: str, error: ValueError) -> ValueError:
        return ValueError(f"{named} is damaged or incomplete ({error}). {self.remedy.capitalize()}.")

    def _described(self, metadata: Mapping[str, str]) -> Described:
        try:
            return self.description.validate_python(json.loads(metadata.get(self.key, "")))
        except ValidationError as error:
            raise ValueError(told(error)) from error
        except (RecursionError, ValueError) as error:
            raise ValueError(f"the description of its {self.key} is no JSON: {shown(error)}") from error


def several(
    form: str,
    key: str,
    one: type[One],
    most: int,
    check: Callable[[Shapes, int], None],
    read: Callable[[Mapping[str, Tensor], int, One], Content],
    **messages: str,
) -> Kind[list[One], tuple[Content, ...]]:
    """Files of one to `most` things, whose tensors are called "<i>.<name>". check, read: of the i-th; messages: as Kind has them."""

    def check_all(shapes: Shapes, described: list[One]) -> None:
        for index in range(len(described)):
            check(shapes, index)

    def read_all(tensors: Mapping[str, Tensor], described: list[One]) -> tuple[Content, ...]:
        check_all({name: tuple(tensor.shape) for name, tensor in tensors.items()}, described)
        return tuple(read(tensors, index, fields) for index, fields in enumerate(described))

    description: TypeAdapter[list[One]] = TypeAdapter(Annotated[list[one], Field(min_length=1, max_length=most)])  # type: ignore[valid-type]
    return Kind(form, key, description, check_all, read_all, **messages)


def check_extent(shapes: Shapes, index: int, what: str, needed: tuple[str, ...], most: Mapping[str, tuple[int, ...]]) -> None:
    """Whether the tensors of the i-th thing are there and of a size that such a thing has. what: as in "subject"; most: limits of the
    sides of each."""
    for name in needed:
        if f"{index}.{name}" not in shapes:
            raise ValueError(f"{what} {index + 1} has no tensor {name}")
    for name, limits in most.items():
        shape = shapes.get(f"{index}.{name}")
        if shape is not None and (
            len(shape) != len(limits) or any(side > limit for side, limit in zip(shape, limits, strict=True))
        ):
            raise ValueError(f"{name} of {what} {index + 1} has shape {shown(shape)}, expected sides of at most {limits}")
