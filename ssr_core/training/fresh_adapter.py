"""Where a MIP-Adapter's training begins: an adapter's file, or fresh weights that fit a base.

Fresh keys and values are the UNet's own of its text, as in hqhQAQ/MIP-Adapter, train.py; fresh gates are nn.Linear's initialisation.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.base import Base
from ..methods.mip import formats
from ..methods.mip.adapter import AdapterConfig, MIPAdapter, ResamplerShape
from ..shown import plain

if TYPE_CHECKING:
    from .mip import MIPConfig

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


def fresh(config: MIPConfig, base: Base) -> MIPAdapter:
    """Shapes by the base and the configuration. Raises ValueError where they go with no adapter."""
    tower = base.vision_encoder.config
    pooled = config.projector == "linear"
    width = config.resampler_width
    if not pooled and width > HEAD_SIZE and width % HEAD_SIZE:
        raise ValueError(f"resampler_width must be a multiple of {HEAD_SIZE}, or less, got {width}.")
    shape = ResamplerShape(width, width, min(HEAD_SIZE, width), config.resampler_depth, 4 * width)
    shapes = AdapterConfig(
        layout=base.layout,
        text_width=base.text_width,
        vision_width=tower.projection_dim if pooled else tower.hidden_size,
        tokens=config.tokens,
        resampler=None if pooled else shape,
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
