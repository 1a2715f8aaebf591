"""The autoencoder: diffusers' AutoencoderTiny in its standard layout (TAESD's), trained on crops of the drawn world.

Its latents have about zero mean and unit variance, so that no scaling factor is needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..hosts.diffusers import mini
from ..mini import files
from .steps import train

CROP = 64
BATCH = 32
LATENT_NOISE = 0.04
"""Noise on the latents while training: latents that are close then decode alike, so that small errors of the UNet do not show."""


def pictures(folder: Path, limit: int | None = None) -> Tensor:
    """All pictures of a drawn folder: [N, 128, 128, 3] uint8."""
    files = sorted(folder.glob("references/*.png"))[:limit] + sorted(folder.glob("targets/*.png"))[:limit]
    return torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in tqdm(files, desc="pictures", mininterval=5)])


def run(world: Path, out: Path, steps: int, lr: float = 1e-3, limit: int = 4000) -> None:
    """Train and write autoencoder.safetensors (float16, diffusers' names)."""
    torch.manual_seed(0)
    model = mini.autoencoder().to(memory_format=torch.channels_last)
    seen = pictures(world, limit)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(seen), (BATCH,), generator=generator)
        corners = torch.randint(seen.shape[1] - CROP + 1, (BATCH, 2), generator=generator)
        crops = [seen[i, y : y + CROP, x : x + CROP] for i, (y, x) in zip(chosen, corners.tolist(), strict=True)]
        target = torch.stack(crops).permute(0, 3, 1, 2).float() / 127.5 - 1  # [B, 3, CROP, CROP]
        target = target.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latents = model.encoder(target)
            noise = torch.randn(latents.shape, generator=generator)
            decoded = model.decoder(latents + LATENT_NOISE * noise).float()
        latents = latents.float()
        mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
        moments = (mean.square() + (std - 1).square()).mean()
        error = (decoded - target).abs().mean()
        loss = error + F.mse_loss(decoded, target) + 0.02 * moments
        return loss, {"l1": error.item(), "std": std.mean().item()}

    average = train(model, loss_of, steps, lr, out / "autoencoder.ckpt")
    save_file({name: value.half().contiguous() for name, value in average.items()}, out / files.AUTOENCODER)
