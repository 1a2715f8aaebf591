"""Training samples per second at Stable Diffusion 1.5's shape, against the step of Xiaojiu-z/SSR_Encoder's train.py re-created.

That step ("official") encodes every sample anew (autoencoder, vision model, text encoder twice) and keeps anomaly detection on. Ours
reads the frozen encoders' outputs from the cache that training makes once. Both run interleaved and go through the same UNet and the
same encoder with random weights: forward, backward and optimizer step, in float32; a third row is ours in bf16. Neither reads
pictures.

    python benchmarks/training_step.py --rounds 3
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

sys.path.insert(0, str(Path(__file__).parents[1]))

from ssr_core import vision
from ssr_core.hosts.diffusers.attach import branches_attached
from ssr_core.hosts.diffusers.base import Base
from ssr_core.methods.ssr.encoder import SSREncoder
from ssr_core.methods.ssr.losses import objective
from ssr_core.training.frozen import Frozen
from ssr_core.training.ssr import SSR, SSRConfig

SIDE = 512
REGULARISER = 0.1


def sd15() -> Base:
    """Stable Diffusion 1.5 and CLIP ViT-L/14 with random weights."""
    base = Base(
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        ),
        tokenizer=None,
        vision_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
                patch_size=14,
                projection_dim=768,
            )
        ),
        noise_schedule=DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    )
    for part in (base.unet, base.vae, base.text_encoder, base.vision_encoder):
        part.requires_grad_(False).train(False)
    return base


def official_step(base: Base, encoder: SSREncoder, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> None:
    """What the training step of Xiaojiu-z/SSR_Encoder's train.py computes, in its order, with our modules of the same shapes."""
    with torch.autograd.detect_anomaly(check_nan=True):
        with torch.no_grad():
            latents = base.vae.encode(batch["pixels"]).latent_dist.sample() * 0.18215
            prompt, query = (base.text_encoder(batch[name]).last_hidden_state for name in ("prompt_ids", "query_ids"))
            states = base.vision_encoder(pixel_values=batch["references"], output_hidden_states=True).hidden_states[1:]
            features = torch.stack([states[layer - 1] for layer in encoder.config.vision_layers], dim=1)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(1000, (latents.shape[0],))
        noisy = base.noise_schedule.add_noise(latents, noise, timesteps)
        tokens = encoder(query, features).tokens
        with branches_attached(
            base.unet, encoder.config.layout, [list(encoder.project(tokens))], list(range(latents.shape[0]))
        ):
            predicted = base.unet(noisy, timesteps, prompt).sample
        loss = objective(predicted, noise, tokens, query, REGULARISER)
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()


def our_step(method: SSR, optimizer: torch.optim.Optimizer, cached: dict[str, torch.Tensor], half: bool) -> None:
    """A step of ssr_core/training on cached inputs."""
    with torch.no_grad():
        batch = method.encode(method.frozen.encode(cached))
    autocast = (lambda: torch.autocast("cpu", dtype=torch.bfloat16)) if half else nullcontext
    with method.loss(method.module, batch, autocast) as losses:
        losses["total"].backward()
    optimizer.step()
    optimizer.zero_grad()


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    size = options.batch

    torch.manual_seed(0)
    base = sd15()
    method = SSR(SSRConfig(base="", data="", out="", regulariser=REGULARISER), Frozen(base, torch.device("cpu"), ""))
    encoder = method.encoder
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=5e-5)
    pictures = {
        "pixels": torch.rand(size, 3, SIDE, SIDE) * 2 - 1,
        "references": torch.randn(size, 3, 224, 224),
        "prompt_ids": torch.randint(1000, (size, 77)),
        "query_ids": torch.randint(1000, (size, 77)),
    }
    with torch.no_grad():  # what the cache holds
        mean, std = base.latents(pictures["pixels"])
        states = base.vision_encoder(pixel_values=pictures["references"], output_hidden_states=True).hidden_states[1:]
        features = vision.patch_features(lambda _: states, pictures["references"], encoder.config.vision_layers)
        embeds = {name: base.text_encoder(pictures[f"{name}_ids"]).last_hidden_state for name in ("prompt", "query")}
    cached = {
        "mean": mean,
        "std": std,
        "features": features[:, None],
        "prompt_embeds": embeds["prompt"],
        "query_embeds": embeds["query"][:, None],
        "masks": torch.ones(size, 1, 256),
        "mask_weights": torch.ones(size, 1, 1),
        "seed": list(range(size)),
    }
    ways = {
        "official": lambda: official_step(base, encoder, optimizer, pictures),
        "ours": lambda: our_step(method, optimizer, cached, half=False),
    }
    found: dict[str, list[float]] = {name: [] for name in [*ways, "ours bf16"]}
    for step in ways.values():
        step()  # warm-up
    for _ in range(options.rounds):
        for name, step in ways.items():
            found[name].append(seconds(step))
            print(f"{name}: {found[name][-1]:.2f} s", flush=True)
    base.unet.to(torch.bfloat16)
    half = lambda: our_step(method, optimizer, cached, half=True)
    half()
    for _ in range(options.rounds):
        found["ours bf16"].append(seconds(half))
        print(f"ours bf16: {found['ours bf16'][-1]:.2f} s", flush=True)
    official = median(found["official"])
    for name, times in found.items():
        print(f"{name}: {size / median(times):.4f} samples/s, {official / median(times):.2f} x the official step")


if __name__ == "__main__":
    main()
