"""Weights of MIP-Adapters: both published variants and plain IP-Adapters in, one safetensors format out, and back again.

In: `torch.save` of {"image_proj": ..., "ip_adapter": ...} or safetensors with these prefixes, and our single file. Keys:
hqhQAQ/MIP-Adapter, ip_adapter/ip_adapter.py (load_ip_adapter); layer n stands at place n of the UNet's attention processors.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from ... import finite, tensor_files, weight_files
from ...faults import told
from ...layout import SD15, SDXL
from ...neighbours import IP_ADAPTER, MIP, kind_of, of_objects, sent_on
from ...shown import shown
from ...tensor_files import ObjectsError, Shapes, State, listed
from ...weight_files import IDENTITY, OWN_IDENTITY, Kind, Size, WrittenLayout
from .adapter import AdapterConfig, MIPAdapter, ResamplerShape, fingerprint

log = logging.getLogger("ssr_encoder")

FORMAT = "ssr_mip_adapter"
FORMAT_VERSION = "1"
KIND = Kind("an MIP-Adapter", "Download or convert the adapter again.")
LAYOUTS = {len(layout.layers): layout for layout in (SDXL, SD15)}
"""By the number of layers: what files without a description can be made for."""
HEAD_SIZE = 64
"""Of the resampler's attention in all published files, which do not say."""

_PROJECTOR = re.compile(r"image_proj\.(?P<name>[\w.]+)")
_LAYER = re.compile(r"ip_adapter\.(?P<number>\d{1,4})\.(?P<part>to_k_ip|to_v_ip|text_to_weight)\.weight")
_PARTS = {"to_k_ip": "to_k.weight", "to_v_ip": "to_v.weight", "text_to_weight": "gate"}


class Weights(NamedTuple):
    """An adapter's weights under our own names, its shapes, the identity that objects carry, and whether its file had gates."""

    config: AdapterConfig
    state: State
    fingerprint: str
    gated: bool = True


def read(path: Path, config: AdapterConfig | None = None) -> Weights:
    """Read an adapter from one file. config: shapes to check a file without a description against; None finds them from the tensors.

    A plain IP-Adapter gets gates that are 1 everywhere, with a word about it. Raises FileNotFoundError, or ValueError that says what was
    found and what was expected.
    """
    try:
        raw, metadata = tensor_files.read(path, look=_look)
    except ObjectsError as error:
        raise of_objects(error, MIP) from error
    named = shown(path)
    gated = True
    if metadata.get("format") == FORMAT:
        config, state = _described(metadata, named), raw
    else:
        state = rename(raw, named)
        config = config or _found(state, named)
        gated = any(name.endswith(".gate") for name in state)
        if not gated:
            log.warning(
                "SSR-Encoder: %s is a plain IP-Adapter without the gates that MIP-Adapter learned; every gate is taken as 1. Objects are "
                "still told apart by name.",
                named,
            )
            widths = {f"layers.{layer.index}.gate": layer.width for layer in config.layout.layers}
            dtype = next(iter(state.values())).dtype
            state |= {name: torch.zeros(width, dtype=dtype) for name, width in widths.items()}
    _check(state, config, named)
    own = fingerprint(state, config)
    identity = weight_files.identity_of(state, metadata, own, named, KIND)
    return Weights(config, weight_files.of_one_type(state, named), identity, gated)


def load(path: Path, config: AdapterConfig | None = None, dtype: torch.dtype | None = None) -> MIPAdapter:
    """Read weights and build the module. dtype None keeps the file's own."""
    weights = read(path, config)
    return build(weights, dtype=dtype)


def build(weights: Weights, operations: Any = nn, dtype: torch.dtype | None = None) -> MIPAdapter:
    adapter = MIPAdapter(weights.config, operations, dtype=dtype or next(iter(weights.state.values())).dtype)
    adapter.load_state_dict(weights.state)
    adapter.fingerprint = weights.fingerprint
    return adapter.requires_grad_(False).train(False)


def write(weights: Weights, path: Path, dtype: torch.dtype | None = None, extra: Mapping[str, str] | None = None) -> None:
    """Write our single file. dtype None keeps the weights' own; extra: more metadata, such as how they were trained."""
    finite.check(weights.state, "The adapter to write", "Nothing was written.")
    state = {name: tensor.to(dtype or tensor.dtype) for name, tensor in weights.state.items()}
    _check(state, weights.config, f"The adapter as {dtype}" if dtype else "The adapter to write")
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


def write_official(weights: Weights, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write the authors' layout as safetensors: image_proj.* and ip_adapter.<number>.*, as their loader and other packs read it."""
    finite.check(weights.state, "The adapter to write", "Nothing was written.")
    official = {official_name(name, weights.config): tensor.to(dtype or tensor.dtype) for name, tensor in weights.state.items()}
    gates = {name for name in official if name.endswith("text_to_weight.weight")}
    tensor_files.write({name: tensor[None] if name in gates else tensor for name, tensor in official.items()}, path)


def official_name(name: str, config: AdapterConfig) -> str:
    """The authors' name of one of our tensors."""
    if name.startswith("projector."):
        return name.replace("projector.", "image_proj.", 1)
    _, index, part = name.split(".", 2)
    theirs = next(official for official, ours in _PARTS.items() if ours == part)
    return f"ip_adapter.{config.layout.layers[int(index)].ip_adapter_number}.{theirs}.weight"


def rename(raw: Mapping[str, Tensor], named: str = "the file") -> State:
    """Names in the published files -> our names. Raises ValueError for names that are neither."""
    state: State = {}
    foreign = [key for key, tensor in raw.items() if tensor.ndim and not (_PROJECTOR.fullmatch(key) or _LAYER.fullmatch(key))]
    if foreign:
        raise ValueError(
            f"{named}: not an MIP-Adapter; unknown keys {listed(foreign)}. Expected a projector (image_proj.proj.weight or "
            "image_proj.latents, ...) and layers (ip_adapter.1.to_k_ip.weight, ...)."
        )
    numbers = sorted({int(found["number"]) for key in raw if (found := _LAYER.fullmatch(key))})
    if numbers != list(range(1, 2 * len(numbers), 2)):
        raise ValueError(
            f"{named}: layer numbers {shown(numbers)} are not 1, 3, 5, ... A part of the file is missing; copy it again."
        )
    for key, tensor in raw.items():
        if (found := _LAYER.fullmatch(key)) is not None:
            part = _PARTS[found["part"]]
            state[f"layers.{(int(found['number']) - 1) // 2}.{part}"] = tensor.flatten() if part == "gate" else tensor
        elif (found := _PROJECTOR.fullmatch(key)) is not None:
            state[f"projector.{found['name']}"] = tensor
    for part, prefix in (("projector (image_proj.*)", "projector."), ("layers (ip_adapter.*)", "layers.")):
        if not any(name.startswith(prefix) for name in state):
            raise ValueError(f"{named} has no {part}. A part of the file is missing; copy it again.")
    return state


def _look(named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
    """Refuse what a file's names tell already, before its tensors are read."""
    form = metadata.get("format")
    if form not in (FORMAT, "pt", None):  # "pt" is what safetensors' own writers leave there
        raise ValueError(
            f'{named} is a file of format "{shown(form)}", not an MIP-Adapter.'
            + sent_on(form, " Choose the adapter's own file.")
        )
    kind = kind_of(shapes, MIP)
    if form != FORMAT and kind not in (None, IP_ADAPTER):
        raise ValueError(
            f"{named}: not an MIP-Adapter but {kind} ({listed(list(shapes))}). Choose model_sdxl.bin, model_sdxl_plus.bin or an IP-Adapter "
            "for SDXL."
        )


class _WrittenResampler(BaseModel):
    """ResamplerShape in a file's metadata."""

    width: Size
    inner: Size
    head_size: Size
    depth: Size
    feed_forward: Size


class _WrittenConfig(BaseModel):
    """AdapterConfig in a file's metadata. Every field is needed: a default in its place would make another adapter."""

    layout: WrittenLayout
    text_width: Size
    vision_width: Size
    tokens: Size
    resampler: _WrittenResampler | None


def config_of(text: str) -> AdapterConfig:
    """An adapter's shapes from the JSON in its file's metadata. Raises ValueError that names the field."""
    try:
        written = _WrittenConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(told(error)) from error
    resampler = None if written.resampler is None else ResamplerShape(**dict(written.resampler))
    return AdapterConfig(written.layout.layout(), written.text_width, written.vision_width, written.tokens, resampler)


def _described(metadata: Mapping[str, str], named: str) -> AdapterConfig:
    """Shapes by the metadata of our own file."""
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{named} has adapter format version {shown(metadata.get('format_version'))}; this version of the pack reads "
            f"{FORMAT_VERSION}. Update the pack."
        )
    try:
        return config_of(metadata.get("config", ""))
    except ValueError as error:
        raise ValueError(f"{named}: its configuration cannot be read ({shown(error, 400)}). {KIND.remedy}") from error


def _found(state: State, named: str) -> AdapterConfig:
    """Shapes by the tensors of a published file."""

    def shape(name: str, sides: int) -> tuple[int, ...]:
        tensor = state.get(name)
        if tensor is None or tensor.ndim != sides or not tensor.numel():
            found = "none" if tensor is None else f"one of shape {shown(tuple(tensor.shape))}"
            raise ValueError(f"{named}: expected a tensor {name} with {sides} sides, found {found}. {KIND.remedy}")
        return tuple(tensor.shape)

    count = len({name.split(".")[1] for name in state if name.startswith("layers.")})
    if count not in LAYOUTS:
        raise ValueError(f"{named} has {count} layers; expected {SDXL_LAYERS} (Stable Diffusion XL). {KIND.remedy}")
    _, text_width = shape("layers.0.to_k.weight", 2)
    if "projector.latents" not in state:
        rows, vision_width = shape("projector.proj.weight", 2)
        return AdapterConfig(LAYOUTS[count], text_width, vision_width, max(rows // text_width, 1))
    _, tokens, width = shape("projector.latents", 3)
    _, vision_width = shape("projector.proj_in.weight", 2)
    inner, _ = shape("projector.layers.0.0.to_q.weight", 2)
    feed_forward, _ = shape("projector.layers.0.1.1.weight", 2)
    depth = len({name.split(".")[2] for name in state if name.startswith("projector.layers.")})
    head_size = HEAD_SIZE if inner % HEAD_SIZE == 0 else inner
    return AdapterConfig(
        LAYOUTS[count], text_width, vision_width, tokens, ResamplerShape(width, inner, head_size, depth, feed_forward)
    )


SDXL_LAYERS = len(SDXL.layers)


def _check(state: Mapping[str, Tensor], config: AdapterConfig, named: str) -> None:
    """Names, shapes, types and numbers, in this order: nothing is built of a description that the tensors do not bear out."""
    weight_files.check_extent(
        state,
        config.layout,
        {"blocks of the resampler": config.resampler.depth if config.resampler else 0},
        (config.text_width, config.vision_width, config.tokens, *(vars(config.resampler).values() if config.resampler else ())),
        named,
        KIND,
    )
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in MIPAdapter(config).state_dict().items()}
    weight_files.check_state(state, expected, named, f"an adapter of {len(config.layout.layers)} layers", KIND)
