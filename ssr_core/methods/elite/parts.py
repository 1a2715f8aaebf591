"""Which mapper a file holds: by its metadata, by its names, or, as the two published files look alike inside, by the place it is given in.

Another method's file is told by its keys (neighbours.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ... import tensor_files
from ...neighbours import ELITE, kind_of, of_objects, sent_on
from ...shown import shown
from ...tensor_files import WRAPPERS, ObjectsError, Shapes, State, listed
from . import description
from .description import KIND
from .mapper import STAGES, EliteConfig, Stage

log = logging.getLogger("ssr_encoder")

FORMAT = "ssr_elite"
FORMAT_VERSION = "1"
BOTH = "both"
"""Metadata "stage" of a file that holds both mappers; of others it is the mapper's."""
BOTH_NEEDED = "Give the global mapper's file and the local mapper's, usually global_mapper.pt and local_mapper.pt."


class Part(NamedTuple):
    """One mapper as it was found in a file. path: None where the file's own metadata tells what it is."""

    state: State
    config: EliteConfig | None
    metadata: Mapping[str, str]
    named: str
    path: Path | None


def told_apart(paths: Sequence[Path]) -> dict[Stage, Part]:
    """The mappers in one file or two. Files that do not say which they are take the free places in the order they are given.

    Raises ValueError where one mapper is there twice, the global one is not there, or a file is none of ELITE's.
    """
    found = [part for path in paths for part in _parts(path)]
    parts: dict[Stage, Part] = {}
    for stage, part in found:
        if stage is None:
            continue
        if stage in parts:
            raise ValueError(f"{parts[stage].named} and {part.named} are both the {stage} mapper. {BOTH_NEEDED}")
        parts[stage] = part
    free = [stage for stage in STAGES if stage not in parts]
    unsaid = [part for stage, part in found if stage is None]
    if len(unsaid) > len(free):
        raise ValueError(f"{unsaid[-1].named} is one mapper too many: {parts['global'].named} holds both. Give that alone.")
    for stage, part in zip(free, unsaid, strict=False):
        parts[stage] = part
        assert part.path is not None
        _warn_of_crossed_names(stage, part.path)
    if "global" not in parts:
        raise ValueError(f"{parts['local'].named} is the local mapper alone, which has no words. {BOTH_NEEDED}")
    if len(found) == 1 and parts["global"].path is not None and _name_says(parts["global"].path, "local"):
        raise ValueError(
            f"{parts['global'].named} is the local mapper alone by its name, and nothing in it says otherwise. {BOTH_NEEDED}"
        )
    return {stage: parts[stage] for stage in STAGES if stage in parts}


def _warn_of_crossed_names(stage: Stage, path: Path) -> None:
    other = next(one for one in STAGES if one != stage)
    if _name_says(path, other):
        log.warning(
            "SSR-Encoder: %s is used as ELITE's %s mapper, but its name says %s. The two files look alike inside; swapped, they draw "
            "nonsense. Give the global mapper's first.",
            shown(path),
            stage,
            other,
        )


def _name_says(path: Path, stage: Stage) -> bool:
    name = path.stem.lower()
    return stage in name and not any(other in name for other in STAGES if other != stage)


def _look(named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
    """Refuse what a file's names tell already, before its tensors are read."""
    form = metadata.get("format")
    if form not in (FORMAT, "pt", None):  # "pt" is what safetensors' own writers leave there
        raise ValueError(
            f'{named} is a file of format "{shown(form)}", not ELITE\'s weights.{sent_on(form, f" {BOTH_NEEDED}")}'
        )
    if form == FORMAT and metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{named} has ELITE format version {shown(metadata.get('format_version'))}; this version of the pack reads {FORMAT_VERSION}. "
            "Update the pack."
        )
    if form == FORMAT and metadata.get("stage") not in (*STAGES, BOTH):
        found = shown(metadata.get("stage"), 40)
        raise ValueError(f'{named} says its stage is "{found}"; expected {", ".join(STAGES)} or {BOTH}. {KIND.remedy}')
    if form != FORMAT and (kind := kind_of(shapes, ELITE)) is not None:
        raise ValueError(f"{named}: not {ELITE} but {kind} ({listed(list(shapes))}). {BOTH_NEEDED}")


def _parts(path: Path) -> list[tuple[Stage | None, Part]]:
    """The mappers in a file and which they are, None where it does not tell."""
    try:
        raw, metadata = tensor_files.read(path, look=_look)
    except ObjectsError as error:
        raise of_objects(error, ELITE) from error
    named = shown(path)
    config = description.config_in(metadata, named) if metadata.get("format") == FORMAT else None
    split: dict[Stage | None, State] = {}
    for key, tensor in raw.items():
        stage, name = _unwrapped(key)
        own = split.setdefault(stage, {})
        if name in own:
            raise ValueError(f"{named} has two tensors for {shown(name)}. Give one ELITE at a time.")
        if tensor.ndim:  # a single number is a counter that training left there
            own[name] = tensor
    told = metadata.get("stage") if config is not None else None
    if len(split) > 1 and None in split:
        raise ValueError(f"{named}: unknown keys {listed(sorted(split[None]))} beside those of two mappers. {KIND.remedy}")
    if told in STAGES and set(split) == {None}:
        split = {stage: state for stage in STAGES if stage == told for state in split.values()}
    wanted = set(STAGES) if told == BOTH else {told} if told else None
    if not split or (wanted is not None and set(split) != wanted):
        held = " and ".join(str(stage) for stage in split) or "no"
        raise ValueError(f"{named} says it holds {told or 'a mapper'}, but holds {held} mapper. {KIND.remedy}")
    return [(stage, Part(state, config, metadata, named, path if stage is None else None)) for stage, state in split.items()]


def _unwrapped(key: str) -> tuple[Stage | None, str]:
    """Which mapper a key is of, if it says so, and its published name, without what data-parallel training and wrappers put before it."""
    stage: Stage | None = None
    while (parts := key.partition("."))[2]:
        own = next((one for one in STAGES if parts[0] == f"{one}_mapper"), None)
        if own is None and parts[0] not in WRAPPERS:
            break
        stage, key = own or stage, parts[2]
    return stage, key
