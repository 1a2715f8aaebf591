"""Every published weight format of the SSR-Encoder in, one safetensors format out.

In: the pair of pickles that Xiaojiu-z/SSR_Encoder releases (pytorch_model.bin: aligner, pytorch_model_1.bin: layers), its
safetensors conversions with the same keys, the renumbering for AnimateDiff, a data-parallel "module." prefix, the older names in
ssr_encoder/ssr_encoder.py, and our single file. Keys and shapes are checked against the layout; what is missing or extra is listed.
How files are read and written is the business of tensor_files.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from ... import tensor_files
from ...faults import told
from ...layout import UNetLayout
from ...tensor_files import State
from .encoder import EncoderConfig, SSREncoder, fingerprint

FORMAT = "ssr_encoder"
FORMAT_VERSION = "1"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


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
    raw, metadata, named = tensor_files.read_together(paths, "Give the aligner file and the layers file.")
    if metadata.get("format") == FORMAT:
        if metadata.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{named} has encoder format version {metadata.get('format_version')}; this version of the pack reads "
                f"{FORMAT_VERSION}. Update the pack."
            )
        try:
            config, state = config_of(metadata.get("config", "")), raw
        except ValueError as error:
            raise ValueError(f"{named}: its configuration cannot be read ({error}). Convert the encoder again.") from error
    else:
        config = config or EncoderConfig()
        state = rename(raw, named)
        _check_both_parts(state, named)
    _check(state, config, named)
    own = fingerprint(state, config)
    # A half-precision copy rounds the weights but is the same encoder: it keeps the identity of what it was converted from.
    return Weights(config, state, metadata.get("fingerprint", own) if _is_half(state) else own)


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
    """Write our single file. dtype None keeps the weights' own; extra: more metadata, such as how they were trained."""
    metadata = {
        **(extra or {}),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(weights.config.to_dict()),
        "fingerprint": weights.fingerprint,
    }
    tensor_files.write({name: tensor.to(dtype or tensor.dtype) for name, tensor in weights.state.items()}, path, metadata)


def rename(raw: Mapping[str, Tensor], named: str = "the files") -> State:
    """Names in the released files -> our names, for a whole encoder or one part. Raises ValueError for names that are neither."""
    named_tensors: dict[tuple[str, ...], Tensor] = {}
    foreign: list[str] = []
    for key, tensor in raw.items():
        place = _place(key.removeprefix("module."))
        if place is None:
            foreign.append(key)
        elif place in named_tensors:
            raise ValueError(f"{named} has two tensors for {'.'.join(place)}; the second is {key}. Give one encoder at a time.")
        else:
            named_tensors[place] = tensor
    if foreign:
        raise ValueError(
            f"{named}: not an SSR-Encoder checkpoint; unknown keys {_listed(foreign)}. Expected an aligner (aligner.to_q.weight, "
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


_LAYER = re.compile(r"(?P<index>\d+)\.(?P<name>to_[a-z]+_(SSR|SC))\.weight")
_ALIGNER = re.compile(r"(aligner|\w*attn\w*)\.(?P<name>to_q|to_k)\.weight")
_SCALE = re.compile(r"(aligner|\w*attn\w*)\.processor\.(?P<name>to_out|to_v)\.(?P<scale>\d+)\.weight")


def _layer_numbers(found: Collection[int], named: str) -> dict[int, int]:
    """Layer index -> number in the file: odd numbers as in the image UNet, or 0, 1, 2, ... as renumbered for AnimateDiff."""
    numbers = sorted(found)
    if numbers == list(range(1, 2 * len(numbers), 2)) or numbers == list(range(len(numbers))):
        return dict(enumerate(numbers))
    raise ValueError(
        f"{named}: layer numbers {numbers} are neither 1, 3, 5, ... (official) nor 0, 1, 2, ... (AnimateDiff). "
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
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in SSREncoder(config).state_dict().items()}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise ValueError(
            f"{named} does not fit an encoder of {len(config.layout.layers)} layers and {len(config.vision_layers)} scales"
            + (f"; missing {_listed(missing)}" if missing else "")
            + (f"; not expected {_listed(extra)}" if extra else "")
            + ". The file is truncated or made for another model."
        )
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{named}: {name} has shape {tuple(state[name].shape)}, expected {shape}. "
                "The file was made for another UNet, text encoder or vision model."
            )
        if state[name].dtype not in DTYPES.values():
            raise ValueError(f"{named}: {name} has type {state[name].dtype}; expected fp32, fp16 or bf16.")


class _WrittenLayout(BaseModel):
    """UNetLayout in a file's metadata. heads: one number for all levels, or one for each."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    resnets: int
    heads: int | tuple[int, ...]
    mid_depth: int = 1


class _WrittenConfig(BaseModel):
    """EncoderConfig in a file's metadata. Every field is needed: a default in its place would make another encoder."""

    layout: _WrittenLayout
    text_width: int
    vision_width: int
    inner_width: int
    heads: int
    vision_layers: tuple[int, ...]


def config_of(text: str) -> EncoderConfig:
    """An encoder's shapes from the JSON in its file's metadata. Raises ValueError that names the field."""
    try:
        written = _WrittenConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(told(error)) from error
    return EncoderConfig(**{**dict(written), "layout": UNetLayout(**dict(written.layout))})


def _is_half(state: Mapping[str, Tensor]) -> bool:
    return all(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in state.values())


def _listed(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
