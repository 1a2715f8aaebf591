"""Subject files: subjects as safetensors, to keep and to share. A shared file is untrusted: what does not fit together is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, PositiveInt
from torch import Tensor

from ... import finite
from ...crop import pixels_of
from ...described_files import check_extent, several
from ...finite import LARGEST_STRENGTH
from ...shown import shown
from ...tensor_files import Shapes
from ...vision import LONGEST_SIDE, Fit
from ...words import Word
from .subject import MOST_QUERY_LETTERS, MOST_SUBJECTS, Subject, SubjectSet

FORMAT = "ssr_subject"

_TENSORS = ("tokens", "null_tokens", "attention", "picture")
_OPTIONAL_TENSORS = ("word_embeds", "marked")

MOST_TOKENS = 77
"""Of a query: CLIP's context."""
MOST_SCALES = 32
"""Tokens of a subject for each of its query's: the released encoder has 6."""
MOST_PATCHES = 64 * 64
"""Of a vision model's grid: ViT-L/14 has 16 x 16."""
LARGEST_PICTURE = 1024
"""Side of what a vision model sees, in pixels: 224 for ViT-L/14."""
WIDEST = 1 << 16
"""Width of a token."""


def save(subjects: SubjectSet, path: Path, provenance: Mapping[str, str] | None = None, new: bool = False) -> None:
    """Write subjects to one safetensors file. The picture in it is its thumbnail; provenance, new: as described_files has them."""
    if not subjects:
        raise ValueError("There is no subject to save. Connect the SSR_SUBJECT output of Encode Subject.")
    tensors = {f"{index}.{name}": getattr(subject, name) for index, subject in enumerate(subjects) for name in _TENSORS}
    tensors |= {
        f"{index}.{name}": tensor
        for index, subject in enumerate(subjects)
        for name in _OPTIONAL_TENSORS
        if (tensor := getattr(subject, name)) is not None
    }
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"The subject cannot be saved: {name} is a {type(tensor).__name__}, no tensor. Encode it again.")
    described = [
        {
            "query": subject.query,
            "words": [list(word) for word in subject.words],
            "encoder": subject.encoder,
            "source_size": list(subject.source_size),
            "fit": subject.fit,
            "strength": subject.strength,
            **({} if subject.crop is None else {"crop": list(subject.crop)}),
        }
        for subject in subjects
    ]
    _FILE.save(tensors, described, path, provenance, new)


def load(path: Path) -> SubjectSet:
    """Read what save wrote. Raises ValueError that names the file for anything else."""
    return _FILE.load(path)


def provenance(path: Path) -> dict[str, str]:
    """What was said to save about a file that load can read, such as who made it and when; as it can be shown."""
    return _FILE.provenance(path)


def _check(shapes: Shapes, index: int) -> None:
    most = {
        "tokens": (MOST_TOKENS * MOST_SCALES, WIDEST),
        "null_tokens": (MOST_TOKENS * MOST_SCALES, WIDEST),
        "attention": (MOST_TOKENS, MOST_PATCHES + 1),
        "picture": (LARGEST_PICTURE, LARGEST_PICTURE, 3),
        "word_embeds": (MOST_TOKENS, WIDEST),
        "marked": (MOST_PATCHES,),
    }
    check_extent(shapes, index, "subject", _TENSORS, most)


ROUNDING = 1e-2
"""By how much a share may exceed 1, averaged in half precision."""


def _in_order(words: tuple[Word, ...]) -> tuple[Word, ...]:
    edges = [edge for word in words for edge in (word.first, word.stop)]
    if edges != sorted(edges) or any(word.first == word.stop for word in words) or (words and edges[0] < 0):
        raise ValueError("must not overlap or be empty")
    return words


_Side = Annotated[PositiveInt, Field(le=LONGEST_SIDE)]


class _Described(BaseModel):
    """What a file says about one subject besides its tensors."""

    query: Annotated[str, Field(max_length=MOST_QUERY_LETTERS)]
    words: Annotated[tuple[Word, ...], Field(max_length=MOST_TOKENS), AfterValidator(_in_order)]
    encoder: Annotated[str, Field(max_length=200)]
    source_size: tuple[_Side, _Side]
    fit: Fit
    strength: Annotated[FiniteFloat, Field(ge=-LARGEST_STRENGTH, le=LARGEST_STRENGTH)]
    crop: tuple[int, int, int, int] | None = None


def _read(tensors: Mapping[str, Tensor], index: int, described: _Described) -> Subject:
    own = {name: tensors[f"{index}.{name}"] for name in _TENSORS}
    _check_shapes(own)
    words, attention = described.words, own["attention"]
    if words and words[-1].stop > len(attention):
        raise ValueError(f"words up to token {shown(words[-1].stop)} for a map of {len(attention)} tokens")
    if described.crop is not None and pixels_of(described.crop, described.source_size[::-1]) != described.crop:
        raise ValueError(f"crop {described.crop} beyond a picture of {shown(described.source_size[::-1])}")
    word_embeds, marked = (tensors.get(f"{index}.{name}") for name in _OPTIONAL_TENSORS)
    positions = sum(word.stop - word.first for word in words)
    if word_embeds is not None and tuple(word_embeds.shape) != (positions, own["tokens"].shape[1]):
        raise ValueError(f"word_embeds {tuple(word_embeds.shape)} for the words {shown(words)}")
    if marked is not None and tuple(marked.shape) != (attention.shape[1] - 1,):
        raise ValueError(f"marked {tuple(marked.shape)} for {attention.shape[1] - 1} patches")
    _check_numbers({**own, "word_embeds": word_embeds, "marked": marked})
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
        crop=described.crop,
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


def _check_numbers(own: Mapping[str, Tensor | None]) -> None:
    for name, tensor in own.items():
        if tensor is None or name == "picture":
            continue
        if not tensor.is_floating_point():
            raise ValueError(f"{name} of type {tensor.dtype}")
        shares = name in ("attention", "marked")
        if (found := finite.fault(tensor, 0, 1 + ROUNDING) if shares else finite.fault(tensor)) is not None:
            raise ValueError(f"{name} with {found}")


_FILE = several(
    FORMAT,
    "subjects",
    _Described,
    MOST_SUBJECTS,
    _check,
    _read,
    is_not="is not a subject file",
    unsaved="The subject cannot be saved",
    choose="Choose a file written by Save Subject.",
    again="encode the subject again",
)
