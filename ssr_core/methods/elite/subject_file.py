"""Subject files of ELITE: subjects as safetensors, to keep and to share. Shared ones are untrusted: what does not fit is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, PositiveInt
from torch import Tensor

from ... import finite
from ...described_files import check_extent, several
from ...finite import LARGEST_STRENGTH
from ...maps import Box
from ...tensor_files import Shapes
from ...vision import LONGEST_SIDE
from .framing import Framing
from .subject import MOST_SUBJECTS, EliteSubject, EliteSubjects

FORMAT = "ssr_elite_subject"

_TENSORS = ("words", "patches", "picture")

MOST_WORDS = 64
"""Of a subject: the released mapper makes 5."""
MOST_PATCHES = 64 * 64
"""Of a vision model's grid: ViT-L/14 has 16 x 16."""
LARGEST_PICTURE = 1024
"""Side of what a vision model sees, in pixels: 224 for ViT-L/14."""
WIDEST = 1 << 16
"""Width of a token."""


def save(subjects: EliteSubjects, path: Path, provenance: Mapping[str, str] | None = None, new: bool = False) -> None:
    """Write subjects to one safetensors file. The picture in it is its thumbnail; provenance, new: as described_files has them."""
    if not subjects:
        raise ValueError("There is no subject to save. Connect the output of Encode Subject (ELITE).")
    tensors = {f"{index}.{name}": getattr(subject, name) for index, subject in enumerate(subjects) for name in _TENSORS}
    tensors |= {f"{index}.tokens": subject.tokens for index, subject in enumerate(subjects) if subject.tokens is not None}
    described = [
        {
            "encoder": subject.encoder,
            "source_size": list(subject.source_size),
            "box": list(subject.box),
            "framing": subject.framing,
            "strength": subject.strength,
        }
        for subject in subjects
    ]
    _FILE.save(tensors, described, path, provenance, new)


def load(path: Path) -> EliteSubjects:
    """Read what save wrote. Raises ValueError that names the file for anything else."""
    return _FILE.load(path)


def provenance(path: Path) -> dict[str, str]:
    """What was said to save about a file that load can read, such as who made it and when; as it can be shown."""
    return _FILE.provenance(path)


def _check(shapes: Shapes, index: int) -> None:
    most = {
        "words": (MOST_WORDS, WIDEST),
        "tokens": (MOST_PATCHES, WIDEST),
        "patches": (MOST_PATCHES,),
        "picture": (LARGEST_PICTURE, LARGEST_PICTURE, 3),
    }
    check_extent(shapes, index, "subject", _TENSORS, most)


def _some_area(box: Box) -> Box:
    left, top, right, bottom = box
    if not (left < right and top < bottom) or max(map(abs, box)) > 2 * LONGEST_SIDE:
        raise ValueError("must be left, top, right, bottom of a part of the picture")
    return box


_Side = Annotated[PositiveInt, Field(le=LONGEST_SIDE)]


class _Described(BaseModel):
    """What a file says about one subject besides its tensors."""

    encoder: Annotated[str, Field(max_length=200)]
    source_size: tuple[_Side, _Side]
    box: Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat], AfterValidator(_some_area)]
    framing: Framing
    strength: Annotated[FiniteFloat, Field(ge=-LARGEST_STRENGTH, le=LARGEST_STRENGTH)]


def _read(tensors: Mapping[str, Tensor], index: int, described: _Described) -> EliteSubject:
    words, patches, picture = (tensors[f"{index}.{name}"] for name in _TENSORS)
    tokens = tensors.get(f"{index}.tokens")
    _check_shapes(words, tokens, patches, picture)
    _check_numbers(words, tokens, patches)
    return EliteSubject(
        words,
        tokens,
        patches,
        picture,
        source_size=described.source_size,
        box=described.box,
        framing=described.framing,
        encoder=described.encoder,
        strength=described.strength,
    )


def _check_shapes(words: Tensor, tokens: Tensor | None, patches: Tensor, picture: Tensor) -> None:
    """Whether the tensors of one subject belong together."""
    side = picture.shape[0] if picture.ndim else 0
    count = patches.numel()
    fits = (
        words.ndim == 2
        and words.numel() > 0
        and patches.ndim == 1
        and count > 0
        and math.isqrt(count) ** 2 == count
        and (tokens is None or tuple(tokens.shape) == (count, words.shape[1]))
        and side > 0
        and picture.shape == (side, side, 3)
        and picture.dtype == torch.uint8
        and all(tensor.is_floating_point() for tensor in (words, patches, tokens) if tensor is not None)
    )
    if not fits:
        own = {"words": words, "tokens": tokens, "patches": patches, "picture": picture}
        given = (f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in own.items() if tensor is not None)
        raise ValueError("tensors " + ", ".join(given))


def _check_numbers(words: Tensor, tokens: Tensor | None, patches: Tensor) -> None:
    for name, tensor in (("words", words), ("tokens", tokens)):
        if tensor is not None and (found := finite.fault(tensor)) is not None:
            raise ValueError(f"{name} with {found}")
    if not bool(((patches == 0) | (patches == 1)).all()) or not bool(patches.any()):
        raise ValueError("patches that are not 0 and 1, some of them 1")
    if tokens is not None and bool(tokens[patches == 0].any()):
        raise ValueError("tokens outside the mask that are not zero")


_FILE = several(
    FORMAT,
    "subjects",
    _Described,
    MOST_SUBJECTS,
    _check,
    _read,
    is_not="is not a subject file of ELITE",
    unsaved="The subject cannot be saved",
    choose="Choose a file written by Save Subject (ELITE).",
    again="encode the subject again",
)
