"""Subjects as files, one each. A shared file is untrusted: what does not fit together is refused.

Apart from it, in a second file, the state of the optimizer that learns it: three times as large and of no use to anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import BaseModel as Checked
from pydantic import Field, FiniteFloat, TypeAdapter
from torch import Tensor

from ... import finite, tensor_files
from ...described_files import VERSION, Kind
from ...finite import LARGEST_STRENGTH
from ...layout import UNetLayout
from ...neighbours import LASR
from ...shown import shown
from ...tensor_files import Shapes
from .embedder import MOST_RANK, EmbedderShapes, SubjectEmbedder
from .from_words import MOST_WEIGHT, MOST_WORD_LETTERS
from .subject import MOST_PLACEHOLDER_LETTERS, MOST_TOKEN, BaseModel, DeltaVariant, LasrSubject, Learning

FORMAT = "ssr_lasr_subject"
STATE_FORMAT = "ssr_lasr_optimizer"

VECTORS = "init_vectors"
"""Beside the weights, which have the embedder's names."""
WIDEST = 1 << 14
MOST_LEVELS, MOST_RESNETS, MOST_DEPTH = 16, 64, 64
"""Of a UNet that a file's metadata describes; real ones have 4, 2 and 10."""
MOST_STEPS = 1 << 31


def save(subject: LasrSubject, path: Path, provenance: Mapping[str, str] | None = None, new: bool = False) -> None:
    """Write a subject to one safetensors file: the embedder's weights by name, everything else as JSON in the metadata.

    provenance, new: as described_files has them.
    """
    tensors = dict(subject.weights) | ({} if subject.vectors is None else {VECTORS: subject.vectors})
    described = {
        "layout": subject.shapes.layout.to_dict(),
        "text_width": subject.shapes.text_width,
        "init_words": subject.shapes.words,
        "rank": subject.shapes.rank,
        "placeholder": subject.placeholder,
        "token": subject.token,
        "alpha": subject.alpha,
        "strength": subject.strength,
        "base": asdict(subject.base),
        "learning": asdict(subject.learning),
    }
    _FILE.save(tensors, described, path, provenance, new)


def load(path: Path) -> LasrSubject:
    """Read what save wrote. Raises ValueError that names the file for anything else."""
    return _FILE.load(path)


def provenance(path: Path) -> dict[str, str]:
    """What was said to save about a file that load can read, such as who made it and when; as it can be shown."""
    return _FILE.provenance(path)


class OptimizerState(NamedTuple):
    """Of AdamW: its means of gradients and of their squares by the parameters' names, and how many steps it has done."""

    means: dict[str, Tensor]
    squares: dict[str, Tensor]
    step: int


def save_state(state: OptimizerState, subject: LasrSubject, path: Path) -> None:
    """Write the optimizer's state beside its subject, which it names by fingerprint."""
    tensors = {f"mean.{name}": value for name, value in state.means.items()}
    tensors |= {f"square.{name}": value for name, value in state.squares.items()}
    metadata = {
        "format": STATE_FORMAT,
        "format_version": VERSION,
        "subject": subject.fingerprint,
        "step": str(state.step),
    }
    tensor_files.write(tensors, path, metadata)


def load_state(path: Path, subject: LasrSubject) -> OptimizerState:
    """Raises ValueError for a file that is none, or that belongs to another subject or to another step of this one."""

    def look(named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
        if metadata.get("format") != STATE_FORMAT or metadata.get("format_version") != VERSION:
            found = shown(repr(metadata.get("format", "none")), 40)
            raise ValueError(
                f"{named} is not the state of an optimizer that learns a subject (format {found}). Choose another file."
            )
        if metadata.get("subject") != subject.fingerprint or metadata.get("step") != str(subject.learning.step):
            raise ValueError(
                f'{named} belongs to another subject than "{shown(subject.placeholder, 40)}", or to another step. Choose the file that was '
                "written with it, or go on without."
            )
        expected = {
            f"{kind}.{name}": tuple(value.shape) for kind in ("mean", "square") for name, value in subject.weights.items()
        }
        if dict(shapes) != expected:
            raise ValueError(f"{named} does not fit its subject; a part is missing or changed. Go on without it.")

    tensors, _ = tensor_files.read(path, "go on without it", look)
    for name, value in tensors.items():
        least = 0.0 if name.startswith("square.") else -finite.LARGEST_WEIGHT
        if not value.is_floating_point() or (fault := finite.fault(value, least)) is not None:
            raise ValueError(
                f"{shown(path)}: {shown(name)} holds {fault if value.is_floating_point() else value.dtype}. Go on without it."
            )
    kinds = {
        kind: {name.removeprefix(f"{kind}."): value.float() for name, value in tensors.items() if name.startswith(f"{kind}.")}
        for kind in ("mean", "square")
    }
    return OptimizerState(kinds["mean"], kinds["square"], subject.learning.step)


_Side = Annotated[int, Field(ge=1, le=WIDEST)]
_Depth = Annotated[int, Field(ge=0, le=MOST_DEPTH)]
_Short = Annotated[str, Field(max_length=MOST_WORD_LETTERS)]


class _Layout(Checked):
    channels: Annotated[tuple[_Side, ...], Field(min_length=1, max_length=MOST_LEVELS)]
    depths: Annotated[tuple[_Depth, ...], Field(max_length=MOST_LEVELS)]
    resnets: Annotated[int, Field(ge=1, le=MOST_RESNETS)]
    heads: _Side | Annotated[tuple[_Side, ...], Field(max_length=MOST_LEVELS)]
    mid_depth: _Depth


class _Base(Checked):
    name: _Short
    text_encoder: _Short


class _Learning(Checked):
    words: Annotated[
        tuple[tuple[_Short, Annotated[FiniteFloat, Field(ge=0, le=MOST_WEIGHT)]], ...], Field(max_length=MOST_RANK)
    ]
    class_word: _Short
    step: Annotated[int, Field(ge=0, le=MOST_STEPS)]
    delta: DeltaVariant


class _Described(Checked):
    """What a file says about its subject besides the tensors."""

    layout: _Layout
    text_width: _Side
    init_words: Annotated[int, Field(ge=1, lt=MOST_RANK)]
    rank: Annotated[int, Field(ge=2, le=MOST_RANK)]
    placeholder: Annotated[str, Field(min_length=1, max_length=MOST_PLACEHOLDER_LETTERS)]
    token: Annotated[int, Field(ge=0, le=MOST_TOKEN)]
    alpha: Annotated[FiniteFloat, Field(ge=0, le=1)]
    strength: Annotated[FiniteFloat, Field(ge=-LARGEST_STRENGTH, le=LARGEST_STRENGTH)]
    base: _Base
    learning: _Learning


def _shapes(described: _Described) -> EmbedderShapes:
    layout = UNetLayout(**described.layout.model_dump())
    return EmbedderShapes(layout, described.text_width, described.init_words, described.rank)


def _check_shapes(found: Shapes, shapes: EmbedderShapes) -> None:
    """Names and sides of all tensors, before any is read: nothing is built of a description that they do not bear out."""
    if len(shapes.layers) > len(found):
        raise ValueError(f"a UNet of {len(shapes.layers)} layers for {len(found)} tensors")
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in SubjectEmbedder(shapes).state_dict().items()}
    expected[VECTORS] = (shapes.words, shapes.text_width)
    absent = sorted(expected.keys() - found.keys() - {VECTORS})
    extra = sorted(found.keys() - expected.keys())
    if absent or extra:
        raise ValueError(
            "; ".join(
                f"{what} {tensor_files.listed(names)}"
                for what, names in (("missing", absent), ("not expected", extra))
                if names
            )
        )
    for name, shape in found.items():
        if tuple(shape) != expected[name]:
            raise ValueError(f"{name} has shape {shown(tuple(shape), 80)}, expected {expected[name]}")


def _read(tensors: Mapping[str, Tensor], described: _Described) -> LasrSubject:
    shapes = _shapes(described)
    _check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, shapes)
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"{name} of type {tensor.dtype}")
        if (fault := finite.fault(tensor)) is not None:
            raise ValueError(f"{name} with {fault}")
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    vectors = weights.pop(VECTORS, None)
    subject = LasrSubject(shapes, weights, described.placeholder, described.token, described.alpha, described.strength)
    learning, base = described.learning, described.base
    return replace(
        subject,
        base=BaseModel(base.name, base.text_encoder),
        learning=Learning(learning.words, learning.class_word, learning.step, learning.delta),
        vectors=vectors,
    )


_FILE = Kind(
    FORMAT,
    "subject",
    TypeAdapter(_Described),
    lambda shapes, described: _check_shapes(shapes, _shapes(described)),
    _read,
    is_not="is not a learned subject",
    unsaved="The subject cannot be saved",
    choose="Choose a file written by Save Subject (LASR) or ssr-encoder learn.",
    again="learn the subject again",
    own=LASR,
)
REMEDY = _FILE.remedy
