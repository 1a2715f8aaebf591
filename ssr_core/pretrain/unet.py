"""The UNet: noise prediction on latents of drawn scenes, half of them under captions that tell the looks.

A base that knows no words for looks gives an encoder nothing to steer: its cross-attentions never carried a colour.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..hosts.diffusers import mini
from ..hosts.diffusers.base import Base
from ..losses import balanced_weights
from ..mini import files
from ..training.precision import autocast
from .scenes import CAPTIONS, INSIDE, PICTURES
from .steps import batches, read_lines, train

BATCH = 32
NO_CAPTION = 0.12
"""Share of captions replaced by "", for classifier-free guidance."""
TOLD = 0.5
"""Share of captions that tell the looks; the others tell classes and background."""
EVENLY = 0.5
"""Share of timesteps drawn evenly; the others are drawn as often as they weigh, which scatters less than weighing alone."""
ON_OBJECTS = 3.0
"""How much more an error on an object counts than one on the background, which is most of a picture and soon learned."""


def run(
    scenes: Path,
    out: Path,
    steps: int,
    lr: float = 8e-4,
    start: Path | None = None,
    device: str = "cpu",
    deadline: float = math.inf,
    compiled: bool = False,
) -> None:
    """Train on what `autoencoder` and `text` wrote to `out`; writes unet.safetensors (float16).

    start: weights to begin with. compiled: by torch.compile, which takes minutes at first and a third off each step.
    """
    torch.manual_seed(0)
    base = mini.load(out, untrained=(files.UNET, files.VISION_ENCODER))
    base.text_encoder.to(device)
    records = read_lines(scenes / CAPTIONS)
    latents = _latents(base, scenes, out / "latents.npy", device)
    model = mini.unet()
    if start is not None:
        model.load_state_dict(load_file(start))
    model.to(device, memory_format=torch.channels_last)
    if compiled:
        model.compile()
    shares = _shares(scenes)
    scheduler = base.noise_schedule
    weights = balanced_weights(scheduler.alphas_cumprod)
    chances = EVENLY + (1 - EVENLY) * weights  # their mean is 1
    kernel = SDPBackend.MATH if device == "cpu" else SDPBackend.EFFICIENT_ATTENTION  # too narrow for the CPU's fused kernel

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        chosen = next(batches(len(records), BATCH, 0, step))
        generator = torch.Generator().manual_seed(step)
        clean = torch.from_numpy(latents[chosen.numpy()]).float()
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.multinomial(chances, BATCH, replacement=True, generator=generator)
        dropped, told = torch.rand(2, BATCH, generator=generator) < torch.tensor([[NO_CAPTION], [TOLD]])
        captions = [records[i]["told" if told[row] else "text"] for row, i in enumerate(chosen)]
        context = base.embed(["" if dropped[row] else caption for row, caption in enumerate(captions)])
        noisy = scheduler.add_noise(clean, noise, timesteps).to(device, memory_format=torch.channels_last)
        with sdpa_kernel(kernel), autocast(noisy.device):
            predicted = model(noisy, timesteps.to(device), context).sample
        squares = (predicted.float() - noise.to(device)).square().mean(dim=1)  # [B, 16, 16]
        share = torch.from_numpy(shares[chosen.numpy()]).to(device).float() / 255
        emphasis = 1 + ON_OBJECTS * share
        errors = (emphasis * squares).mean(dim=(1, 2)) / emphasis.mean(dim=(1, 2))  # [B]
        loss = ((weights / chances)[timesteps].to(device) * errors).mean()
        return loss, {"plain": squares.mean().item()}

    average = train(model, loss_of, steps, lr, out / "unet.ckpt", warmup=200, decay=0.999, deadline=deadline)
    save_file({name: value.half().contiguous() for name, value in average.items()}, out / files.UNET)


@torch.no_grad()
def _latents(base: Base, scenes: Path, kept: Path, device: str) -> np.ndarray:
    """[N, 4, 16, 16] float16 of every picture, computed once."""
    if kept.exists():
        return np.load(kept)
    found = []
    pictures = np.load(scenes / PICTURES, mmap_mode="r")
    base.vae.to(device, memory_format=torch.channels_last)
    for start in tqdm(range(0, len(pictures), 64), desc="latents", mininterval=10):
        pixels = torch.from_numpy(np.array(pictures[start : start + 64])).to(device)  # [B, 128, 128, 3]
        pixels = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with autocast(pixels.device):
            found.append(base.latents(pixels)[0].half().cpu().numpy())
    latents = np.concatenate(found)
    np.save(kept, latents)
    return latents


def _shares(scenes: Path) -> np.ndarray:
    """[N, 16, 16] uint8: how much of each latent's place is covered by objects."""
    inside = np.load(scenes / INSIDE, mmap_mode="r")  # [N, 128, 128]
    side = inside.shape[1] // 8
    return np.concatenate(
        [
            inside[at : at + 512].reshape(-1, side, 8, side, 8).mean(axis=(2, 4)).astype(np.uint8)
            for at in range(0, len(inside), 512)
        ]
    )
