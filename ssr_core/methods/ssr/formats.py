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
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from ... import finite, tensor_files, weight_files
from ...faults import told
from ...neighbours import SSR, of_objects, sent_on
from ...shown import shown
from ...tensor_files import WRAPPERS, ObjectsError, Shapes, State, listed
from ...weight_files import IDENTITY, OWN_IDENTITY, Kind, Size, WrittenLayout
from .encoder import EncoderConfig, SSREncoder, fingerprint
from .neighbours import kind_of

log = logging.getLogger("ssr_encoder")

FORMAT = "ssr_encoder"
FORMAT_VERSION = "1"
REMEDY = "Download or convert the encoder again."
KIND = Kind("an SSR-Encoder", REMEDY)


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
        raise of_objects(error, SSR) from error
    if metadata.get("format") == FORMAT:
        config, state = _described(metadata, named), raw
    else:
        config = config or EncoderConfig()
        state = rename(raw, named)
        _check_both_parts(state, named)
    _check(state, config, named)
    own = fingerprint(state, config)
    identity = weight_files.identity_of(state, metadata, own, named, KIND)
    return Weights(config, weight_files.of_one_type(state, named), identity)


def _look(named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
    """Refuse what a file's names tell already, before its tensors are read."""
    form = metadata.get("format")
    if form not in (FORMAT, "pt", None):  # "pt" is what safetensors' own writers leave there
        raise ValueError(
            f'{named} is a file of format "{shown(form)}", not an SSR-Encoder.'
            + sent_on(form, " Choose the SSR-Encoder's own files.")
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
    if weight_files.is_half(state):
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
    if config != EncoderConfig():
        widths = (config.text_width, config.vision_width, config.inner_width)
        weight_files.check_extent(state, config.layout, {"scales": len(config.vision_layers)}, widths, named, KIND)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in SSREncoder(config).state_dict().items()}
    described = f"an encoder of {len(config.layout.layers)} layers and {len(config.vision_layers)} scales"
    weight_files.check_state(state, expected, named, described, KIND)


class _WrittenConfig(BaseModel):
    """EncoderConfig in a file's metadata. Every field is needed: a default in its place would make another encoder."""

    layout: WrittenLayout
    text_width: Size
    vision_width: Size
    inner_width: Size
    heads: Size
    vision_layers: tuple[Size, ...]


def config_of(text: str) -> EncoderConfig:
    """An encoder's shapes from the JSON in its file's metadata. Raises ValueError that names the field."""
    try:
        written = _WrittenConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(told(error)) from error
    return EncoderConfig(**{**dict(written), "layout": written.layout.layout()})
