"""Subject files: subjects as safetensors, to keep and to share. A shared file is untrusted: what does not fit together is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, PositiveInt, TypeAdapter, ValidationError
from torch import Tensor

from ... import tensor_files
from ...faults import told
from ...vision import Fit
from ...words import Word
from .subject import Subject, SubjectSet

FORMAT = "ssr_subject"
FORMAT_VERSION = "1"
REMEDY = "copy it again or encode the subject again"

_TENSORS = ("tokens", "null_tokens", "attention", "picture")
_OPTIONAL_TENSORS = ("word_embeds", "marked")


def save(subjects: SubjectSet, path: Path, provenance: Mapping[str, str] | None = None) -> None:
    """Write subjects to one safetensors file: tensors "<i>.<name>", everything else as JSON in the metadata.

    provenance: what else a reader of the file may want to know, such as who made it and when. A subject's own picture is its thumbnail.
    """
    if not subjects:
        raise ValueError("There is no subject to save. Connect the SSR_SUBJECT output of Encode Subject.")
    tensors = {f"{index}.{name}": getattr(subject, name) for index, subject in enumerate(subjects) for name in _TENSORS}
    tensors |= {
        f"{index}.{name}": tensor
        for index, subject in enumerate(subjects)
        for name in _OPTIONAL_TENSORS
        if (tensor := getattr(subject, name)) is not None
    }
    described = [
        {
            "query": subject.query,
            "words": [list(word) for word in subject.words],
            "encoder": subject.encoder,
            "source_size": list(subject.source_size),
            "fit": subject.fit,
            "strength": subject.strength,
        }
        for subject in subjects
    ]
    metadata = {
        **(provenance or {}),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "subjects": json.dumps(described),
    }
    tensor_files.write(tensors, path, metadata)


def load(path: Path) -> SubjectSet:
    """Read what save wrote. Raises ValueError that names the file for anything else."""
    metadata = tensor_files.read_metadata(path, REMEDY)
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise ValueError(f"{path} is not a subject file (format {found!r}). Choose a file written by Save Subject.")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} is a subject file of format version {metadata.get('format_version')}; this version of the pack reads version "
            f"{FORMAT_VERSION}. Update the pack or encode the subject again."
        )
    tensors, _ = tensor_files.read(path, REMEDY)
    try:
        described = _DESCRIBED.validate_python(json.loads(metadata["subjects"]))
        return tuple(_read(tensors, index, fields) for index, fields in enumerate(described))
    except (LookupError, RecursionError, ValueError) as error:
        fault = told(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"{path} is damaged or incomplete ({fault}). {REMEDY.capitalize()}.") from error


def provenance(path: Path) -> dict[str, str]:
    """The provenance that save was given, from a file that load can read."""
    own = ("format", "format_version", "subjects")
    return {name: text for name, text in tensor_files.read_metadata(path, REMEDY).items() if name not in own}


def _in_order(words: tuple[Word, ...]) -> tuple[Word, ...]:
    edges = [edge for word in words for edge in (word.first, word.stop)]
    if edges != sorted(edges) or any(word.first == word.stop for word in words) or (words and edges[0] < 0):
        raise ValueError("must not overlap or be empty")
    return words


class _Described(BaseModel):
    """What a file says about one subject besides its tensors."""

    query: str
    words: Annotated[tuple[Word, ...], AfterValidator(_in_order)]
    encoder: str
    source_size: tuple[PositiveInt, PositiveInt]
    fit: Fit
    strength: FiniteFloat


_DESCRIBED: TypeAdapter[list[_Described]] = TypeAdapter(Annotated[list[_Described], Field(min_length=1)])


def _read(tensors: Mapping[str, Tensor], index: int, described: _Described) -> Subject:
    own = {name: tensors[f"{index}.{name}"] for name in _TENSORS}
    _check_shapes(own)
    words, attention = described.words, own["attention"]
    if words and words[-1].stop > len(attention):
        raise ValueError(f"words up to token {words[-1].stop} for a map of {len(attention)} tokens")
    word_embeds, marked = (tensors.get(f"{index}.{name}") for name in _OPTIONAL_TENSORS)
    positions = sum(word.stop - word.first for word in words)
    if word_embeds is not None and tuple(word_embeds.shape) != (positions, own["tokens"].shape[1]):
        raise ValueError(f"word_embeds {tuple(word_embeds.shape)} for the words {words}")
    if marked is not None and tuple(marked.shape) != (attention.shape[1] - 1,):
        raise ValueError(f"marked {tuple(marked.shape)} for {attention.shape[1] - 1} patches")
    return Subject(
        **own,
        query=described.query,
        words=words,
        encoder=described.encoder,
        source_size=described.source_size,
        fit=described.fit,
        strength=described.strength,
        word_embeds=word_embeds,
        marked=marked,
    )


def _check_shapes(own: dict[str, Tensor]) -> None:
    """Whether the tensors of one subject belong together."""
    tokens, attention, picture = own["tokens"], own["attention"], own["picture"]
    numbers = [own[name] for name in ("tokens", "null_tokens", "attention")]
    side = picture.shape[0] if picture.ndim else 0
    patches = attention.shape[-1] - 1 if attention.ndim == 2 else 0
    fits = (
        tokens.ndim == 2
        and own["null_tokens"].shape == tokens.shape
        and patches > 0
        and math.isqrt(patches) ** 2 == patches
        and side > 0
        and picture.shape == (side, side, 3)
        and picture.dtype == torch.uint8
        and all(tensor.is_floating_point() for tensor in numbers)
    )
    if not fits:
        raise ValueError("tensors " + ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in own.items()))
    if not all(bool(tensor.isfinite().all()) for tensor in numbers):
        raise ValueError("numbers that are not finite")
