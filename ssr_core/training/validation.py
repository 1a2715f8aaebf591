"""Validation while training: what the configuration asks to see, as one sheet of what was asked and what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..hosts.diffusers import generate
from ..sheet import sheet
from .method import Method


def draw_validation(method: Method, path: Path) -> NDArray[np.uint8]:
    """Draw and save the sheet; returns its pixels [H, W, 3]. Changes neither the weights nor any random state."""
    config, base = method.config, method.frozen.base
    pipe = generate.pipeline(base)
    rows = []
    with torch.random.fork_rng():
        for number, wanted in enumerate(config.validation):
            latents = generate.noise(base, [config.seed + number], config.size, config.size)
            rows.append(method.validation_row(pipe, wanted, latents))
    picture = sheet(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return np.asarray(picture)
