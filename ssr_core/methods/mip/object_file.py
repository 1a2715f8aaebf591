"""Object files: objects as safetensors, to keep and to share. A shared file is untrusted: what does not fit together is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter, ValidationError
from torch import Tensor

from ... import finite, tensor_files
from ...faults import told
from ...finite import LARGEST_STRENGTH
from ...neighbours import sent_on
from ...shown import shown
from ...tensor_files import Shapes
from .objects import (
    MOST_NAME_LETTERS,
    MOST_NAME_TOKENS,
    MOST_OBJECTS,
    MOST_PICTURES,
    PICTURES_SHOWN,
    MIPObject,
    ObjectSet,
    check_name,
)

FORMAT = "ssr_mip_objects"
FORMAT_VERSION = "1"
REMEDY = "copy it again or encode the object again"

_FLOATS = ("tokens", "null_tokens", "name_embeds", "null_name_embeds")
_TENSORS = (*_FLOATS, "pictures")

MOST_TOKENS = 1024
"""Of an object: released adapters have 4 and 16."""
WIDEST = 1 << 16
LARGEST_PICTURE = 1024
LARGEST_REGION = 1 << 14


def save(objects: ObjectSet, path: Path, provenance: Mapping[str, str] | None = None, new: bool = False) -> None:
    """Write objects to one safetensors file: tensors "<i>.<name>", everything else as JSON in the metadata.

    provenance: what else a reader of the file may want to know, such as who made it and when. new: raise FileExistsError where there is a
    file of that name. What load would refuse is not written: ValueError.
    """
    if not objects:
        raise ValueError("There is no object to save. Connect the SSR_MIP_OBJECTS output of Encode Object (MIP).")
    tensors = {f"{index}.{name}": getattr(one, name) for index, one in enumerate(objects) for name in _TENSORS}
    tensors |= {f"{index}.region": one.region for index, one in enumerate(objects) if one.region is not None}
    described = [{"name": one.name, "adapter": one.adapter, "count": one.count, "strength": one.strength} for one in objects]
    try:
        for index, fields in enumerate(_DESCRIBED.validate_python(described)):
            _read(tensors, index, fields)
    except ValueError as error:
        fault = told(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"The object cannot be saved, as it could not be read again: {fault}. Encode it again.") from error
    metadata = {**(provenance or {}), "format": FORMAT, "format_version": FORMAT_VERSION, "objects": json.dumps(described)}
    tensor_files.write(tensors, path, metadata, new)


def load(path: Path) -> ObjectSet:
    """Read what save wrote. Raises ValueError that names the file for anything else."""
    tensors, metadata = tensor_files.read(path, REMEDY, _look)
    try:
        return tuple(_read(tensors, index, fields) for index, fields in enumerate(_described(metadata)))
    except ValueError as error:
        raise ValueError(f"{shown(path)} is damaged or incomplete ({error}). {REMEDY.capitalize()}.") from error


def provenance(path: Path) -> dict[str, str]:
    """What was said to save about a file that load can read, such as who made it and when; as it can be shown."""
    return tensor_files.provenance(path, ("format", "format_version", "objects"), REMEDY)


def _look(named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
    """Refuse what a file says about itself, before its tensors are read."""
    if metadata.get("format") != FORMAT:
        found = shown(repr(metadata.get("format", "none")), 40)
        hint = sent_on(metadata.get("format"), " Choose a file written by Save Objects (MIP).")
        raise ValueError(f"{named} is not a file of objects (format {found}).{hint}")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{named} is a file of objects of format version {shown(metadata.get('format_version'))}; this version of the pack reads "
            f"version {FORMAT_VERSION}. Update the pack or encode the objects again."
        )
    try:
        for index, _ in enumerate(_described(metadata)):
            _check_extent(shapes, index)
    except ValueError as error:
        raise ValueError(f"{named} is damaged or incomplete ({error}). {REMEDY.capitalize()}.") from error


class _Described(BaseModel):
    """What a file says about one object besides its tensors."""

    name: Annotated[str, Field(max_length=MOST_NAME_LETTERS)]
    adapter: Annotated[str, Field(max_length=200)]
    count: Annotated[int, Field(ge=1, le=MOST_PICTURES)]
    strength: Annotated[FiniteFloat, Field(ge=-LARGEST_STRENGTH, le=LARGEST_STRENGTH)]


_DESCRIBED: TypeAdapter[list[_Described]] = TypeAdapter(
    Annotated[list[_Described], Field(min_length=1, max_length=MOST_OBJECTS)]
)


def _described(metadata: Mapping[str, str]) -> list[_Described]:
    """Raises ValueError that says what is wrong, without the file's name."""
    try:
        return _DESCRIBED.validate_python(json.loads(metadata.get("objects", "")))
    except ValidationError as error:
        raise ValueError(told(error)) from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"the description of its objects is no JSON: {shown(error)}") from error


def _check_extent(shapes: Shapes, index: int) -> None:
    """Whether the tensors of an object are there and of a size that an object has."""
    most = {
        "tokens": (MOST_TOKENS, WIDEST),
        "null_tokens": (MOST_TOKENS, WIDEST),
        "name_embeds": (MOST_NAME_TOKENS, WIDEST),
        "null_name_embeds": (MOST_NAME_TOKENS, WIDEST),
        "pictures": (PICTURES_SHOWN, LARGEST_PICTURE, LARGEST_PICTURE, 3),
        "region": (LARGEST_REGION, LARGEST_REGION),
    }
    for name in _TENSORS:
        if f"{index}.{name}" not in shapes:
            raise ValueError(f"object {index + 1} has no tensor {name}")
    for name, limits in most.items():
        shape = shapes.get(f"{index}.{name}")
        if shape is None:
            continue
        if len(shape) != len(limits) or 0 in shape or any(side > limit for side, limit in zip(shape, limits, strict=True)):
            raise ValueError(f"{name} of object {index + 1} has shape {shown(shape)}, expected up to {limits}")


def _read(tensors: Mapping[str, Tensor], index: int, described: _Described) -> MIPObject:
    _check_extent({name: tuple(tensor.shape) for name, tensor in tensors.items()}, index)
    own = {name: tensors[f"{index}.{name}"] for name in _TENSORS}
    region = tensors.get(f"{index}.region")
    check_name(described.name)
    tokens, pictures = own["tokens"], own["pictures"]
    fits = (
        own["null_tokens"].shape == tokens.shape
        and own["name_embeds"].shape == own["null_name_embeds"].shape
        and own["name_embeds"].shape[1] == tokens.shape[1]
        and pictures.shape[1] == pictures.shape[2]
        and pictures.shape[3] == 3
        and pictures.dtype == torch.uint8
        and all(own[name].is_floating_point() for name in _FLOATS)
        and (region is None or (region.dtype == torch.uint8 and bool(region.any())))
    )
    if not fits:
        found = {**own, **({} if region is None else {"region": region})}
        raise ValueError(
            "tensors " + ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in found.items())
        )
    for name in _FLOATS:
        if (fault := finite.fault(own[name])) is not None:
            raise ValueError(f"{name} with {fault}")
    return MIPObject(
        **own,
        name=described.name,
        count=described.count,
        adapter=described.adapter,
        strength=described.strength,
        region=region,
    )
