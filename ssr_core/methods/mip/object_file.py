"""Object files: objects as safetensors, to keep and to share. A shared file is untrusted: what does not fit together is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field, FiniteFloat
from torch import Tensor

from ... import finite
from ...described_files import check_extent, several
from ...finite import LARGEST_STRENGTH
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

_FLOATS = ("tokens", "null_tokens", "name_embeds", "null_name_embeds")
_TENSORS = (*_FLOATS, "pictures")

MOST_TOKENS = 1024
"""Of an object: released adapters have 4 and 16."""
WIDEST = 1 << 16
LARGEST_PICTURE = 1024
LARGEST_REGION = 1 << 14


def save(objects: ObjectSet, path: Path, provenance: Mapping[str, str] | None = None, new: bool = False) -> None:
    """Write objects to one safetensors file. provenance, new: as described_files has them."""
    if not objects:
        raise ValueError("There is no object to save. Connect the SSR_MIP_OBJECTS output of Encode Object (MIP).")
    tensors = {f"{index}.{name}": getattr(one, name) for index, one in enumerate(objects) for name in _TENSORS}
    tensors |= {f"{index}.region": one.region for index, one in enumerate(objects) if one.region is not None}
    described = [{"name": one.name, "adapter": one.adapter, "count": one.count, "strength": one.strength} for one in objects]
    _FILE.save(tensors, described, path, provenance, new)


def load(path: Path) -> ObjectSet:
    """Read what save wrote. Raises ValueError that names the file for anything else."""
    return _FILE.load(path)


def provenance(path: Path) -> dict[str, str]:
    """What was said to save about a file that load can read, such as who made it and when; as it can be shown."""
    return _FILE.provenance(path)


def _check(shapes: Shapes, index: int) -> None:
    most = {
        "tokens": (MOST_TOKENS, WIDEST),
        "null_tokens": (MOST_TOKENS, WIDEST),
        "name_embeds": (MOST_NAME_TOKENS, WIDEST),
        "null_name_embeds": (MOST_NAME_TOKENS, WIDEST),
        "pictures": (PICTURES_SHOWN, LARGEST_PICTURE, LARGEST_PICTURE, 3),
        "region": (LARGEST_REGION, LARGEST_REGION),
    }
    check_extent(shapes, index, "object", _TENSORS, most)


class _Described(BaseModel):
    """What a file says about one object besides its tensors."""

    name: Annotated[str, Field(max_length=MOST_NAME_LETTERS)]
    adapter: Annotated[str, Field(max_length=200)]
    count: Annotated[int, Field(ge=1, le=MOST_PICTURES)]
    strength: Annotated[FiniteFloat, Field(ge=-LARGEST_STRENGTH, le=LARGEST_STRENGTH)]


def _read(tensors: Mapping[str, Tensor], index: int, described: _Described) -> MIPObject:
    own = {name: tensors[f"{index}.{name}"] for name in _TENSORS}
    region = tensors.get(f"{index}.region")
    check_name(described.name)
    tokens, pictures = own["tokens"], own["pictures"]
    fits = (
        all(0 not in tensor.shape for tensor in own.values())
        and own["null_tokens"].shape == tokens.shape
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


_FILE = several(
    FORMAT,
    "objects",
    _Described,
    MOST_OBJECTS,
    _check,
    _read,
    is_not="is not a file of objects",
    unsaved="The object cannot be saved",
    choose="Choose a file written by Save Objects (MIP).",
    again="encode the objects again",
)
