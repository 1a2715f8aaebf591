"""Subject files: subjects as safetensors, to keep and to share. A shared file is untrusted: what does not fit together is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .subject import Subject, SubjectSet
from .vision import FITS
from .words import Word

FORMAT = "ssr_subject"
FORMAT_VERSION = "1"

_TENSORS = ("tokens", "null_tokens", "attention", "picture")
_OPTIONAL_TENSORS = ("word_embeds", "marked")


def save(subjects: SubjectSet, path: Path, provenance: Mapping[str, str] | None = None) -> None:
    """Write subjects to one safetensors file: tensors "<i>.<name>", everything else as JSON in the metadata.

    provenance: what else a reader of the file may want to know, such as who made it and when. The picture in it is its thumbnail.
    """
    if not subjects:
        raise ValueError("There is no subject to save. Connect the SSR_SUBJECT output of Encode Subject.")
    tensors = {
        f"{index}.{name}": getattr(subject, name).cpu().contiguous().clone()
        for index, subject in enumerate(subjects)
        for name in _TENSORS
    }
    tensors |= {
        f"{index}.{name}": tensor.cpu().contiguous().clone()
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
    save_file(tensors, path, metadata=metadata)


def load(path: Path) -> SubjectSet:
    """Read what save wrote. Raises ValueError that names the file for anything else."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no subject file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if (fault := _foreign(metadata)) is None:
                # Cloned: tensors of an open file share its bytes, which somebody may overwrite.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, error) from error
    if fault is not None:
        raise ValueError(f"{path} {fault}")
    try:
        described = json.loads(metadata["subjects"])
        subjects = tuple(_read(tensors, index, fields) for index, fields in enumerate(described))
        if not subjects:
            raise ValueError("no subject in it")
    except (LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    return subjects


def provenance(path: Path) -> dict[str, str]:
    """What was said to save about a file that load can read, such as who made it and when."""
    with safe_open(path, framework="pt") as file:
        return {name: text for name, text in file.metadata().items() if name not in ("format", "format_version", "subjects")}


def _foreign(metadata: dict[str, str]) -> str | None:
    """Why a file with this metadata is not one of ours, or None."""
    if metadata.get("format") != FORMAT:
        return f"is not a subject file (format {metadata.get('format', 'none')!r}). Choose a file written by Save Subject."
    if metadata.get("format_version") != FORMAT_VERSION:
        return (
            f"is a subject file of format version {metadata.get('format_version')}; this version of the pack reads version "
            f"{FORMAT_VERSION}. Update the pack or encode the subject again."
        )
    return None


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged or incomplete ({error}). Copy it again or encode the subject again.")


def _read(tensors: dict[str, Tensor], index: int, fields: dict) -> Subject:
    own = {name: tensors[f"{index}.{name}"] for name in _TENSORS}
    _check_shapes(own)
    if fields["fit"] not in FITS:
        raise ValueError(f"fit {fields['fit']!r}")
    height, width = (int(side) for side in fields["source_size"])
    words = tuple(Word(str(text), int(first), int(stop)) for text, first, stop in fields["words"])
    strength = float(fields["strength"])
    if min(height, width) < 1 or not math.isfinite(strength):
        raise ValueError(f"source size {height} x {width}, strength {strength}")
    edges = [edge for word in words for edge in (word.first, word.stop)]
    if edges != sorted(edges) or any(word.first == word.stop for word in words) or (words and edges[0] < 0):
        raise ValueError("words that overlap or are empty")
    if words and edges[-1] > len(own["attention"]):
        raise ValueError(f"words up to token {edges[-1]} for a map of {len(own['attention'])} tokens")
    word_embeds, marked = (tensors.get(f"{index}.{name}") for name in _OPTIONAL_TENSORS)
    if word_embeds is not None and tuple(word_embeds.shape) != (_width(words), own["tokens"].shape[1]):
        raise ValueError(f"word_embeds {tuple(word_embeds.shape)} for the words {words}")
    if marked is not None and tuple(marked.shape) != (own["attention"].shape[1] - 1,):
        raise ValueError(f"marked {tuple(marked.shape)} for {own['attention'].shape[1] - 1} patches")
    return Subject(
        **own,
        query=str(fields["query"]),
        words=words,
        encoder=str(fields["encoder"]),
        source_size=(height, width),
        fit=fields["fit"],
        strength=strength,
        word_embeds=word_embeds,
        marked=marked,
    )


def _width(words: Sequence[Word]) -> int:
    """Token positions that the words occupy together."""
    return sum(word.stop - word.first for word in words)


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
