"""The autoencoder: diffusers' AutoencoderTiny in its standard layout (TAESD's), trained on crops of drawn scenes.

Its latents have about zero mean and unit variance, so that no scaling factor is needed.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..hosts.diffusers import mini
from ..mini import files
from ..training.precision import autocast
from .scenes import INSIDE, PICTURES
from .steps import train

CROP = 64
BATCH = 16
LATENT_NOISE = 0.04
"""Noise on the latents while training: near latents then decode alike, which the diffusion model's small errors need."""
LOUDER = 4.0
"""How much more a pixel of an object, or next to one, counts than the empty background; outlines are what classes are told by."""
MARGIN = 5
"""Of what is next to an object, in pixels; odd."""


def run(
    scenes: Path,
    out: Path,
    steps: int,
    lr: float = 4e-4,
    start: Path | None = None,
    device: str = "cpu",
    deadline: float = math.inf,
) -> None:
    """Train on the drawn scenes and write autoencoder.safetensors (float16, diffusers' names).

    start: weights to begin with. Their encoder stays as it is, so that latents keep their meaning for UNets that were trained on them.
    """
    torch.manual_seed(0)
    model = mini.autoencoder().to(device, memory_format=torch.channels_last)
    if start is not None:
        model.load_state_dict({name: value.float() for name, value in load_file(start).items()})
        model.encoder.requires_grad_(False)
    seen, inside = (np.load(scenes / name, mmap_mode="r") for name in (PICTURES, INSIDE))

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(seen), (BATCH,), generator=generator).tolist()
        corners = torch.randint(seen.shape[1] - CROP + 1, (BATCH, 2), generator=generator).tolist()
        places = [(i, slice(y, y + CROP), slice(x, x + CROP)) for i, (y, x) in zip(chosen, corners, strict=True)]
        target = torch.from_numpy(np.stack([seen[place] for place in places])).to(device)
        target = target.permute(0, 3, 1, 2).float() / 127.5 - 1  # [B, 3, CROP, CROP]
        covered = torch.from_numpy(np.stack([inside[place] for place in places])).to(device)[:, None].float() / 255
        weights = 1 + LOUDER * F.max_pool2d(covered, MARGIN, stride=1, padding=MARGIN // 2)  # [B, 1, CROP, CROP]
        weights = weights / weights.mean()
        target = target.to(memory_format=torch.channels_last)
        with autocast(target.device):
            latents = model.encoder(target)
            noise = torch.randn(latents.shape, generator=generator).to(device)
            decoded = model.decoder(latents + LATENT_NOISE * noise).float()
        latents = latents.float()
        mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
        moments = (mean.square() + (std - 1).square()).mean()
        error = (weights * (decoded - target).abs()).mean()
        loss = error + (weights * (decoded - target).square()).mean() + 0.02 * moments
        return loss, {"l1": error.item(), "std": std.mean().item()}

    average = train(model, loss_of, steps, lr, out / "autoencoder.ckpt", deadline=deadline)
    save_file({name: value.half().contiguous() for name, value in average.items()}, out / files.AUTOENCODER)
