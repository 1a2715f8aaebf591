"""The UNet: noise prediction on latents of the drawn world, half of them under captions that tell the looks.

A base that knows no words for looks gives an encoder nothing to steer: its cross-attentions never carried a colour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..hosts.diffusers import mini
from ..hosts.diffusers.base import Base
from ..losses import balanced_weights
from ..mini import files
from .steps import batches, read_lines, train

BATCH = 32
NO_CAPTION = 0.12
"""Share of captions replaced by "", for classifier-free guidance."""
TOLD = 0.5
"""Share of captions that tell the looks; the others tell classes and background."""


def run(world: Path, out: Path, steps: int, lr: float = 8e-4) -> None:
    """Train on what `autoencoder` and `text` wrote to `out`; writes unet.safetensors (float16)."""
    torch.manual_seed(0)
    base = mini.load(out, untrained=(files.UNET, files.VISION_ENCODER))
    records = read_lines(world / "train.jsonl")
    latents = _latents(base, world, [record["file_name"] for record in records], out / "latents.npy")
    model = mini.unet().to(memory_format=torch.channels_last)
    scheduler = base.noise_schedule

    weights = balanced_weights(scheduler.alphas_cumprod)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        chosen = next(batches(len(records), BATCH, 0, step))
        generator = torch.Generator().manual_seed(step)
        clean = torch.from_numpy(latents[chosen.numpy()]).float()
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.randint(scheduler.config.num_train_timesteps, (BATCH,), generator=generator)
        dropped, told = torch.rand(2, BATCH, generator=generator) < torch.tensor([[NO_CAPTION], [TOLD]])
        captions = [records[i]["told" if told[row] else "text"] for row, i in enumerate(chosen)]
        context = base.embed(["" if dropped[row] else caption for row, caption in enumerate(captions)])
        noisy = scheduler.add_noise(clean, noise, timesteps).to(memory_format=torch.channels_last)
        # Heads are narrower than the fused CPU kernel is made for.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = model(noisy, timesteps, context).sample
        errors = (predicted.float() - noise).square().mean(dim=(1, 2, 3))  # [B]
        return (weights[timesteps] * errors).mean(), {"plain": errors.mean().item()}

    average = train(model, loss_of, steps, lr, out / "unet.ckpt", warmup=200, decay=0.999)
    save_file({name: value.half().contiguous() for name, value in average.items()}, out / files.UNET)


@torch.no_grad()
def _latents(base: Base, world: Path, names: list[str], kept: Path) -> np.ndarray:
    """[N, 4, 16, 16] float16 of every picture, computed once."""
    if kept.exists():
        return np.load(kept)
    found = []
    base.vae.to(memory_format=torch.channels_last)
    for start in tqdm(range(0, len(names), 64), desc="latents", mininterval=10):
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(world / name))) for name in names[start : start + 64]])
        pixels = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(base.latents(pixels)[0].half().numpy())
    latents = np.concatenate(found)
    np.save(kept, latents)
    return latents
