"""Validation while training: what the configuration asks to see, as one sheet of references, heat maps and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..encoder import SSREncoder, fingerprint
from ..hosts.diffusers import generate
from ..hosts.diffusers.base import Base
from ..pictures import open_mask, open_picture
from ..sheet import Labelled, heat_picture, sheet
from .config import TrainingConfig


def draw_validation(config: TrainingConfig, base: Base, encoder: SSREncoder, path: Path) -> NDArray[np.uint8]:
    """Draw and save the sheet; returns its pixels [H, W, 3]. Changes neither the weights nor any random state."""
    encoder.fingerprint = fingerprint(encoder.state_dict(), encoder.config)
    pipe = generate.pipeline(base)
    rows: list[list[Labelled]] = []
    with torch.random.fork_rng():
        for number, wanted in enumerate(config.validation):
            reference = open_picture(Path(wanted.reference))
            mask = None if wanted.mask is None else open_mask(Path(wanted.mask))
            subjects = generate.encode(base, encoder, reference, wanted.query, mask, config.mask_weight)
            latents = generate.noise(base, [config.seed + number], config.size, config.size)
            drawn = generate.sample(
                pipe,
                encoder,
                subjects,
                [wanted.prompt],
                latents,
                steps=config.validation_steps,
                guidance=config.guidance,
                strength=1,
            )
            rows.append(
                [
                    ("reference", reference),
                    (wanted.query or "mask", heat_picture(subjects[0].map())),
                    (wanted.prompt or "no prompt", generate.decode(base, drawn)[0]),
                ]
            )
    picture = sheet(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return np.asarray(picture)
