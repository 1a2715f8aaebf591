"""The two published files of ELITE in, one safetensors file out, and back.

In: global_mapper.pt and local_mapper.pt as csyxwei/ELITE's training writes them, which have the same names and shapes, so that nothing but
their place tells them apart (parts.py); the same as safetensors, where our metadata says which is which; and our single file, whose
names begin with "global_mapper." and "local_mapper.". Names, shapes and numbers are checked here; how files are read and written is
tensor_files.py's.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ... import finite, tensor_files, weight_files
from ...shown import shown
from ...tensor_files import State, listed
from ...weight_files import IDENTITY, OWN_IDENTITY
from . import description, layers
from .description import KIND
from .mapper import STAGES, Elite, EliteConfig, GlobalMapper, LocalMapper, Stage, stage_fingerprint
from .parts import BOTH, BOTH_NEEDED, FORMAT, FORMAT_VERSION, Part, told_apart

log = logging.getLogger("ssr_encoder")

PICKLES = (".pt", ".pth", ".bin")
"""Suffixes under which write_stage writes what the authors' scripts read."""


class Weights(NamedTuple):
    """Both mappers' weights under the published names, their shapes and their identities. Without "local": words alone."""

    config: EliteConfig
    states: dict[Stage, State]
    fingerprints: dict[Stage, str]

    @property
    def fingerprint(self) -> str:
        """What subjects know the two together by."""
        parts = " ".join(self.fingerprints[stage] for stage in STAGES if stage in self.fingerprints)
        return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()

    def of(self, stage: Stage) -> Weights:
        """One mapper of them."""
        return Weights(self.config, {stage: self.states[stage]}, {stage: self.fingerprints[stage]})

    @property
    def state(self) -> State:
        """All of it under the names of our single file, which are those of the module."""
        return {f"{stage}_mapper.{name}": tensor for stage, state in self.states.items() for name, tensor in state.items()}


def of_state(config: EliteConfig, states: Mapping[Stage, State]) -> Weights:
    """Weights with computed identities, of a training for instance."""
    return Weights(config, dict(states), {stage: stage_fingerprint(state, config, stage) for stage, state in states.items()})


def read(paths: Sequence[Path], config: EliteConfig | None = None) -> Weights:
    """Read our single file, or the global mapper's and the local mapper's. Files that do not say which they are count in this order; where
    their names say the opposite, that is logged. The global mapper's file alone gives words alone.

    config: shapes of files without a description; None to take them from the file, with Stable Diffusion 1.x's heads.
    Raises FileNotFoundError, or ValueError that says what was found and what was expected.
    """
    paths = [Path(path) for path in paths]
    if not 1 <= len(paths) <= 2:
        raise ValueError(f"ELITE is one file or two, got {len(paths)}. Give the global mapper's and the local mapper's.")
    if len(paths) == 2 and paths[0].exists() and paths[1].exists() and paths[0].samefile(paths[1]):
        raise ValueError(f"{shown(paths[0])} is given twice. {BOTH_NEEDED}")
    parts = told_apart(paths)
    found: dict[Stage, EliteConfig] = {stage: _config(part, config) for stage, part in parts.items()}
    for stage, part in parts.items():
        _check(part.state, found[stage], stage, part.named)
    if len(set(found.values())) > 1:
        raise ValueError(
            f"{parts['global'].named} and {parts['local'].named} do not belong together: {found['global']} and {found['local']}. "
            "Give two files of one training."
        )
    if "local" in parts and _equal(parts["global"].state, parts["local"].state):
        raise ValueError(
            f"{parts['global'].named} and {parts['local'].named} hold the same weights: the same file twice. {BOTH_NEEDED}"
        )
    for stage, part in parts.items():
        log.info("SSR-Encoder: ELITE's %s mapper is that of %s.", stage, part.named)
    states = {stage: weight_files.of_one_type(part.state, part.named) for stage, part in parts.items()}
    own = {stage: _identity(stage, part, found[stage]) for stage, part in parts.items()}
    return Weights(found["global"], states, own)


def load(
    paths: Sequence[Path],
    config: EliteConfig | None = None,
    operations: Any = nn,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Elite:
    """Read weights and build the module. dtype None keeps the files' own."""
    weights = read(paths, config)
    elite = build(weights, operations, device, dtype)
    return elite.requires_grad_(False).train(False)


def build(
    weights: Weights, operations: Any = nn, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Elite:
    dtype = dtype or next(iter(weights.states["global"].values())).dtype
    elite = Elite(weights.config, operations, device, dtype, local="local" in weights.states)
    elite.load_state_dict(weights.state)
    elite.fingerprint = weights.fingerprint
    return elite


def write(weights: Weights, path: Path, dtype: torch.dtype | None = None, extra: Mapping[str, str] | None = None) -> None:
    """Write our single file. dtype None keeps the weights' own; extra: more metadata, such as how they were trained.

    Raises ValueError for what read would refuse, such as numbers that the type cannot hold.
    """
    states, metadata = _ready(weights, tuple(weights.states), dtype)
    state = {f"{stage}_mapper.{name}": tensor for stage, own in states.items() for name, tensor in own.items()}
    tensor_files.write(state, path, {**(extra or {}), **metadata, "stage": BOTH if len(states) > 1 else "global"})


def write_stage(
    weights: Weights, stage: Stage, path: Path, dtype: torch.dtype | None = None, extra: Mapping[str, str] | None = None
) -> None:
    """Write one mapper under the published names: as a pickle for the authors' scripts where the path ends in .pt, else as safetensors
    with metadata that says which mapper it is."""
    if stage not in weights.states:
        raise ValueError(f"There is no {stage} mapper to write: these weights hold {' and '.join(weights.states)}.")
    states, metadata = _ready(weights, (stage,), dtype)
    if path.suffix.lower() in PICKLES:
        with tensor_files.written_whole(path) as part:
            torch.save(states[stage], part)
    else:
        tensor_files.write(states[stage], path, {**(extra or {}), **metadata, "stage": stage})


def _ready(weights: Weights, stages: Sequence[Stage], dtype: torch.dtype | None) -> tuple[dict[Stage, State], dict[str, str]]:
    """States as they will be written, checked, and what the file says about them."""
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(weights.config.to_dict()),
    }
    states: dict[Stage, State] = {}
    for stage in stages:
        finite.check(weights.states[stage], f"The {stage} mapper to write", "Nothing was written.")
        state = {name: tensor.to(dtype or tensor.dtype) for name, tensor in weights.states[stage].items()}
        _check(state, weights.config, stage, f"The {stage} mapper as {dtype}" if dtype else f"The {stage} mapper to write")
        states[stage] = state
        metadata[f"{IDENTITY}_{stage}"] = weights.fingerprints[stage]
        if weight_files.is_half(state):
            metadata[f"{OWN_IDENTITY}_{stage}"] = stage_fingerprint(state, weights.config, stage)
    return states, metadata


def _config(part: Part, given: EliteConfig | None) -> EliteConfig:
    if part.config is not None:
        return part.config
    if given is not None:
        return given
    try:
        return layers.config_of({name: tuple(tensor.shape) for name, tensor in part.state.items()})
    except ValueError as error:
        raise ValueError(
            f"{part.named} is not a mapper of ELITE: {error} (found {listed(sorted(part.state))}). {BOTH_NEEDED}"
        ) from error


def _identity(stage: Stage, part: Part, config: EliteConfig) -> str:
    own = stage_fingerprint(part.state, config, stage)
    names = {IDENTITY: f"{IDENTITY}_{stage}", OWN_IDENTITY: f"{OWN_IDENTITY}_{stage}"}
    said = {name: part.metadata[of_stage] for name, of_stage in names.items() if of_stage in part.metadata}
    return weight_files.identity_of(part.state, said, own, part.named, KIND)


def _equal(one: State, other: State) -> bool:
    """Whether two mappers hold the same numbers, in the coarser of their types."""

    def same(a: Tensor, b: Tensor) -> bool:
        coarser = min((a.dtype, b.dtype), key=lambda dtype: dtype.itemsize)
        return torch.equal(a.to(coarser), b.to(coarser))

    return all(same(tensor, other[name]) for name, tensor in one.items())


def _check(state: State, config: EliteConfig, stage: Stage, named: str) -> None:
    """Names, shapes, types and numbers, in this order: nothing is built of a description that the tensors do not bear out."""
    description.check_extent(state, config, named)
    with torch.device("meta"):
        made = {"global": GlobalMapper, "local": LocalMapper}[stage](config)
        expected = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    described = f"a mapper of {config.words} words and {len(config.layout.layers)} layers"
    weight_files.check_state(state, expected, named, described, KIND)
