"""Where a MIP-Adapter's training begins: an adapter's file, or fresh weights that fit a base.

Fresh keys and values are the UNet's own of its text, as in hqhQAQ/MIP-Adapter, train.py; fresh gates are nn.Linear's initialisation.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.base import Base
from ..methods.mip import formats
from ..methods.mip.adapter import AdapterConfig, MIPAdapter, ResamplerShape
from ..shown import plain

HEAD_SIZE = 64
"""Of a resampler's attention."""


def started(file: str) -> MIPAdapter:
    """In full precision. Where no gate has learned anything, as in a plain IP-Adapter, all start at random."""
    weights = formats.read(Path(file))
    adapter = formats.build(weights, dtype=torch.float32)
    if not any(bool(gate.any()) for gate in adapter.gates):
        logging.getLogger(__name__).info(plain(f"{file} has no learned gates; they start at random."))
        start_gates(adapter)
    return adapter


def resampler(width: int, depth: int) -> ResamplerShape:
    """Raises ValueError for a width that its heads do not divide."""
    if width > HEAD_SIZE and width % HEAD_SIZE:
        raise ValueError(f"resampler_width must be a multiple of {HEAD_SIZE}, or less, got {width}.")
    return ResamplerShape(width, width, min(HEAD_SIZE, width), depth, 4 * width)


def fresh(base: Base, tokens: int, shape: ResamplerShape | None) -> MIPAdapter:
    """An adapter for the base. tokens: of a reference; shape: of its resampler, None for the linear projector."""
    tower = base.vision_encoder.config
    shapes = AdapterConfig(
        layout=base.layout,
        text_width=base.text_width,
        vision_width=tower.projection_dim if shape is None else tower.hidden_size,
        tokens=tokens,
        resampler=shape,
    )
    adapter = MIPAdapter(shapes)
    attentions = check_unet(base.unet, shapes.layout)
    for layer, own in zip(shapes.layout.layers, adapter.layers, strict=True):
        theirs = attentions[layer.diffusers_name]
        own.to_k.load_state_dict({"weight": theirs.to_k.weight.float()})  # type: ignore[union-attr]
        own.to_v.load_state_dict({"weight": theirs.to_v.weight.float()})  # type: ignore[union-attr]
    start_gates(adapter)
    return adapter


def start_gates(adapter: MIPAdapter) -> None:
    """Uniform in +-1/sqrt(C)."""
    for layer in adapter.layers:
        gate: nn.Parameter = layer.gate  # type: ignore[assignment]
        nn.init.uniform_(gate.data, -(gate.numel() ** -0.5), gate.numel() ** -0.5)
