"""Every published weight format of the SSR-Encoder in, one safetensors format out.

In: the pair of pickles that Xiaojiu-z/SSR_Encoder releases (pytorch_model.bin: aligner, pytorch_model_1.bin: layers), its
safetensors conversions with the same keys, the renumbering for AnimateDiff, a data-parallel "module." prefix, the older names in
ssr_encoder/ssr_encoder.py, and our single file. Keys, shapes and numbers are checked against the
layout; what is missing or extra is listed, and another method's file is told by its keys (neighbours.py). How files are read and
written is tensor_files.py's.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from ... import finite, tensor_files
from ...faults import told
from ...layout import UNetLayout
from ...shown import shown
from ...tensor_files import WRAPPERS, ObjectsError, Shapes, State, listed
from .encoder import EncoderConfig, SSREncoder, fingerprint
from .neighbours import kind_of, kind_of_objects

log = logging.getLogger("ssr_encoder")

FORMAT = "ssr_encoder"
FORMAT_VERSION = "1"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

IDENTITY = "fingerprint"
"""Metadata: what subjects know the encoder by. Of full-precision weights it is computed; a copy in half precision keeps the original's."""
OWN_IDENTITY = "own_fingerprint"
"""Metadata: fingerprint of the weights in the file, half precision and all. Files written before there was this do not have it."""
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")

MOST_LEVELS = 16
MOST_RESNETS = 64
"""Of a UNet that a file's metadata describes; real ones have 4 and 2. How many layers there are is bounded by the file's tensors."""
REMEDY = "Download or convert the encoder again."


class Weights(NamedTuple):
    """An encoder's weights under our own names, its shapes and the identity that subjects carry."""

    config: EncoderConfig
    state: State
    fingerprint: str


def read(paths: Sequence[Path], config: EncoderConfig | None = None) -> Weights:
    """Read an encoder from our single file, or from the two files of a pair in either order.

    config: shapes that files without metadata are checked against; None for the released SD1.5 encoder.
    Raises FileNotFoundError, or ValueError that says what was found and what was expected.
    """
    try:
        raw, metadata, named = tensor_files.read_together(paths, _look)
    except ObjectsError as error:
        kind = kind_of_objects(error.names)
        raise ValueError(f"{error} By their names this is {kind}, not an SSR-Encoder." if kind else str(error)) from error
    if metadata.get("format") == FORMAT:
        config, state = _described(metadata, named), raw
    else:
        config = config or EncoderConfig()
        state = rename(raw, named)
        _check_both_parts(state, named)
    _check(state, config, named)
    own = fingerprint(state, config)
    identity = _claimed(metadata, own, named) if _is_half(state) else own
    return Weights(config, _of_one_type(state, named), identity)


def _look(named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
    """Refuse what a file's names tell already, before its tensors are read."""
    form = metadata.get("format")
    if form not in (FORMAT, "pt", None):  # "pt" is what safetensors' own writers leave there
        raise ValueError(
            f'{named} is a file of format "{shown(form)}", not an SSR-Encoder.'
            + (" Load Subject reads it." if form == "ssr_subject" else " Choose the SSR-Encoder's own files.")
        )
    if form != FORMAT and (kind := kind_of(shapes)) is not None:
        raise ValueError(
            f"{named}: not an SSR-Encoder checkpoint but {kind} ({listed(list(shapes))}). Choose the SSR-Encoder's own files: an aligner "
            "(aligner.to_q.weight, ...) and layers (1.to_k_SSR.weight, ...)."
        )


def _described(metadata: Mapping[str, str], named: str) -> EncoderConfig:
    """Shapes by the metadata of our own file."""
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{named} has encoder format version {shown(metadata.get('format_version'))}; this version of the pack reads "
            f"{FORMAT_VERSION}. Update the pack."
        )
    try:
        return config_of(metadata.get("config", ""))
    except ValueError as error:
        raise ValueError(
            f"{named}: its configuration cannot be read ({shown(error, 400)}). Convert the encoder again."
        ) from error


def _claimed(metadata: Mapping[str, str], own: str, named: str) -> str:
    """The identity of a half-precision copy: that of what it was converted from, which rounded weights cannot prove.

    What can be checked is that they are the weights the claim was written for; files of earlier versions lack even that.
    """
    claimed, written = metadata.get(IDENTITY, own), metadata.get(OWN_IDENTITY)
    if not _FINGERPRINT.fullmatch(claimed):
        raise ValueError(f'{named}: its fingerprint is "{shown(claimed, 40)}", expected 32 hexadecimal digits. {REMEDY}')
    if written not in (None, own):
        raise ValueError(
            f"{named}: its weights are not those that its fingerprint was written for (found {own[:12]}, written for "
            f"{shown(written, 12)}). They were changed afterwards, so subjects of encoder {claimed[:12]} may mean nothing to them. {REMEDY}"
        )
    if written is None and claimed != own:
        log.info(
            "SSR-Encoder: %s is a half-precision copy that says it is encoder %s; a file of an earlier version, of which that cannot be "
            "checked. Convert the original again to have it checked.",
            named,
            claimed[:12],
        )
    return claimed


def _of_one_type(state: State, named: str) -> State:
    """All tensors in the widest of their types, which holds every number of the others."""
    types = {tensor.dtype for tensor in state.values()}
    if len(types) < 2:
        return state
    widest = reduce(torch.promote_types, types)
    log.warning("SSR-Encoder: %s holds %s; used as %s.", named, " and ".join(sorted(map(str, types))), widest)
    return {name: tensor.to(widest) for name, tensor in state.items()}


def load(
    paths: Sequence[Path],
    config: EncoderConfig | None = None,
    operations: Any = nn,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> SSREncoder:
    """Read weights and build the module. dtype None keeps the file's own."""
    weights = read(paths, config)
    dtype = dtype or next(iter(weights.state.values())).dtype
    encoder = SSREncoder(weights.config, operations, device=device, dtype=dtype)
    encoder.load_state_dict(weights.state)
    encoder.fingerprint = weights.fingerprint
    return encoder.requires_grad_(False).train(False)


def write(weights: Weights, path: Path, dtype: torch.dtype | None = None, extra: Mapping[str, str] | None = None) -> None:
    """Write our single file. dtype None keeps the weights' own; extra: more metadata, such as how they were trained.

    Raises ValueError for what read would refuse, such as numbers that the type cannot hold.
    """
    finite.check(weights.state, "The encoder to write", "Nothing was written.")
    state = {name: tensor.to(dtype or tensor.dtype) for name, tensor in weights.state.items()}
    _check(state, weights.config, f"The encoder as {dtype}" if dtype else "The encoder to write")
    metadata = {
        **(extra or {}),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(weights.config.to_dict()),
        IDENTITY: weights.fingerprint,
    }
    if _is_half(state):
        metadata[OWN_IDENTITY] = fingerprint(state, weights.config)
    tensor_files.write(state, path, metadata)


def rename(raw: Mapping[str, Tensor], named: str = "the files") -> State:
    """Names in the released files -> our names, for a whole encoder or one part. Raises ValueError for names that are neither."""
    named_tensors: dict[tuple[str, ...], Tensor] = {}
    foreign: list[str] = []
    for key, tensor in raw.items():
        place = _place(_unwrapped(key))
        if place is None:
            if tensor.ndim:  # a single number is a counter that training left there, such as num_batches_tracked
                foreign.append(key)
        elif place in named_tensors:
            raise ValueError(
                f"{named} has two tensors for {'.'.join(place)}; the second is {shown(key)}. Give one encoder at a time."
            )
        else:
            named_tensors[place] = tensor
    if foreign:
        raise ValueError(
            f"{named}: not an SSR-Encoder checkpoint; unknown keys {listed(foreign)}. Expected an aligner (aligner.to_q.weight, "
            "...) and layers (1.to_k_SSR.weight, ...)."
        )
    numbers = {int(place[1]) for place in named_tensors if place[0] == "layers"}
    index = {str(number): str(layer) for layer, number in _layer_numbers(numbers, named).items()}
    state: State = {}
    for (part, *rest), tensor in named_tensors.items():
        if part == "layers":
            rest[0] = index[rest[0]]
        state[".".join((part, *rest))] = tensor
    return state


def _unwrapped(key: str) -> str:
    """A key without the prefixes that data-parallel training and wrappers leave before it."""
    while (parts := key.partition("."))[0] in WRAPPERS and parts[2]:
        key = parts[2]
    return key


def _place(key: str) -> tuple[str, ...] | None:
    """Our name, in pieces, for a key of the released files; None for a key of something else. A layer keeps its number in the file."""
    if (found := _LAYER.fullmatch(key)) is not None:
        # The oldest files call the matrix of keys to_k_SC, and that of values anything else.
        part = "to_k" if found["name"].startswith("to_k") else "to_v"
        return "layers", str(int(found["index"])), part, "weight"
    if (found := _ALIGNER.fullmatch(key)) is not None:
        return "aligner", found["name"], "weight"
    if (found := _SCALE.fullmatch(key)) is not None:
        return "aligner", found["name"], found["scale"], "weight"
    return ("aligner", *key.split(".")) if key in ("norm.weight", "norm.bias") else None


_LAYER = re.compile(r"(?P<index>\d{1,4})\.(?P<name>to_[a-z]+_(SSR|SC))\.weight")
_ALIGNER = re.compile(r"(aligner|\w*attn\w*)\.(?P<name>to_q|to_k)\.weight")
_SCALE = re.compile(r"(aligner|\w*attn\w*)\.processor\.(?P<name>to_out|to_v)\.(?P<scale>\d{1,4})\.weight")


def _layer_numbers(found: Collection[int], named: str) -> dict[int, int]:
    """Layer index -> number in the file: odd numbers as in the image UNet, or 0, 1, 2, ... as renumbered for AnimateDiff."""
    numbers = sorted(found)
    if numbers == list(range(1, 2 * len(numbers), 2)) or numbers == list(range(len(numbers))):
        return dict(enumerate(numbers))
    raise ValueError(
        f"{named}: layer numbers {shown(numbers)} are neither 1, 3, 5, ... (official) nor 0, 1, 2, ... (AnimateDiff). "
        "A part of the file is missing; copy it again."
    )


def _check_both_parts(state: Mapping[str, Tensor], named: str) -> None:
    found = {name.split(".")[0] for name in state}
    if found == {"aligner", "layers"}:
        return
    absent = "layers" if "aligner" in found else "aligner"
    partner = {
        "aligner": "pytorch_model.bin or ssr_aligner.safetensors",
        "layers": "pytorch_model_1.bin or ssr_layers.safetensors",
    }
    raise ValueError(
        f"{named} holds only the {' and '.join(found) or 'empty dictionary'} of an SSR-Encoder, not the {absent}. "
        f"Give its partner too (usually {partner[absent]})."
    )


def _check(state: Mapping[str, Tensor], config: EncoderConfig, named: str) -> None:
    """Names, shapes, types and numbers, in this order: nothing is built of a description that the tensors do not bear out."""
    _check_extent(state, config, named)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in SSREncoder(config).state_dict().items()}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise ValueError(
            f"{named} does not fit an encoder of {len(config.layout.layers)} layers and {len(config.vision_layers)} scales"
            + (f"; missing {listed(missing)}" if missing else "")
            + (f"; not expected {listed(extra)}" if extra else "")
            + ". A part of the file is missing, or it is made for another model."
        )
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{named}: {name} has shape {shown(tuple(state[name].shape))}, expected {shape}. "
                "The file was made for another UNet, text encoder or vision model."
            )
        if state[name].dtype not in DTYPES.values():
            raise ValueError(f"{named}: {name} has type {state[name].dtype}; expected fp32, fp16 or bf16.")
    finite.check({name: state[name] for name in expected}, named, f"The weights are damaged. {REMEDY}")


def _check_extent(state: Mapping[str, Tensor], config: EncoderConfig, named: str) -> None:
    """Whether a configuration describes no more than a file can hold: layers and scales by its tensors' number, widths by their sides."""
    layout = config.layout
    sides = [side for tensor in state.values() if tensor.numel() for side in tensor.shape]
    # One spare level lets a file that lacks tensors be told which.
    most, widest = len(state) + len(EncoderConfig().layout.layers), max(sides, default=0)
    described = {
        "levels": (len(layout.channels), MOST_LEVELS),
        "resnets": (layout.resnets, MOST_RESNETS),
        "layers": (sum(layout.depths) * (2 * layout.resnets + 1) + layout.mid_depth, most),
        "scales": (len(config.vision_layers), most),
    }
    for what, (number, limit) in described.items():
        if number > limit:
            raise ValueError(
                f"{named} does not fit its description of {shown(number)} {what}; a file of {len(state)} tensors has at most {limit}. "
                + REMEDY
            )
    own = max(*layout.channels, config.text_width, config.vision_width, config.inner_width)
    if config != EncoderConfig() and own > max(widest, 1 << 16):
        raise ValueError(
            f"{named} does not fit its description with a width of {shown(own)}; its tensors are at most {widest} wide. {REMEDY}"
        )
    for width, heads in zip(layout.channels, layout.heads, strict=True):
        if width % heads:
            raise ValueError(f"{named}: its configuration divides a width of {width} among {shown(heads)} heads. {REMEDY}")


_Size = Annotated[int, Field(le=1 << 31)]
"""A number in a configuration: of what a file can hold, none is larger."""


class _WrittenLayout(BaseModel):
    """UNetLayout in a file's metadata. heads: one number for all levels, or one for each."""

    channels: tuple[_Size, ...]
    depths: tuple[_Size, ...]
    resnets: _Size
    heads: _Size | tuple[_Size, ...]
    mid_depth: _Size = 1


class _WrittenConfig(BaseModel):
    """EncoderConfig in a file's metadata. Every field is needed: a default in its place would make another encoder."""

    layout: _WrittenLayout
    text_width: _Size
    vision_width: _Size
    inner_width: _Size
    heads: _Size
    vision_layers: tuple[_Size, ...]


def config_of(text: str) -> EncoderConfig:
    """An encoder's shapes from the JSON in its file's metadata. Raises ValueError that names the field."""
    try:
        written = _WrittenConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(told(error)) from error
    return EncoderConfig(**{**dict(written), "layout": UNetLayout(**dict(written.layout))})


def _is_half(state: Mapping[str, Tensor]) -> bool:
    return all(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in state.values())
