"""A motion module at AnimateDiff's real shapes (SD1.5, version 3: no middle block) with generated weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from support.sd15 import generated

FRAMES = 32
CHANNELS = (320, 640, 1280, 1280)


def write(path: Path) -> None:
    """0.8 GB in half precision."""
    shapes: dict[str, list[int]] = {}
    for stage, widths, modules in (("down_blocks", CHANNELS, 2), ("up_blocks", CHANNELS[::-1], 3)):
        for block, width in enumerate(widths):
            for module in range(modules):
                shapes |= _module(f"{stage}.{block}.motion_modules.{module}.temporal_transformer", width)
    state = generated(shapes)
    for name in state:
        if name.endswith("proj_out.weight"):
            state[name] *= 0.5  # so that random motion does not drown the picture
        if name.endswith("pos_encoder.pe"):
            state[name] = torch.sin(torch.arange(state[name].numel(), dtype=torch.float32)).view(state[name].shape).half()
    save_file(state, path)


def _module(name: str, width: int) -> dict[str, list[int]]:
    block = f"{name}.transformer_blocks.0"
    shapes = {f"{name}.proj_{side}.weight": [width, width] for side in ("in", "out")}
    for attention in range(2):
        inner = f"{block}.attention_blocks.{attention}"
        shapes |= {f"{inner}.to_{part}.weight": [width, width] for part in ("q", "k", "v", "out.0")}
        shapes[f"{inner}.pos_encoder.pe"] = [1, FRAMES, width]
        shapes[f"{inner}.to_out.0.bias"] = [width]
    shapes[f"{block}.ff.net.0.proj.weight"] = [8 * width, width]
    shapes[f"{block}.ff.net.0.proj.bias"] = [8 * width]
    shapes[f"{block}.ff.net.2.weight"] = [width, 4 * width]
    shapes[f"{block}.ff.net.2.bias"] = [width]
    norms = (f"{name}.norm", f"{block}.norms.0", f"{block}.norms.1", f"{block}.ff_norm")
    shapes |= {f"{norm}.{part}": [width] for norm in norms for part in ("weight", "bias")}
    shapes |= {f"{name}.proj_{side}.bias": [width] for side in ("in", "out")}
    return shapes
