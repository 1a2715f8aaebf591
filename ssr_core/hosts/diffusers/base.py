"""The frozen models around a method's own: text encoder, vision model, autoencoder, UNet and noise schedule."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from ...layout import UNetLayout
from .encoders import embed_texts


def fingerprint(*models: Any) -> str:
    """Of models' weights, by a few numbers of each tensor: tells models apart, not tampering."""
    digest = hashlib.blake2b(digest_size=16)
    for model in models:
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode() + value.flatten()[:8].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def layout_of(config: Any) -> UNetLayout:
    """The cross-attention layers of a UNet2DConditionModel, from its configuration."""
    levels = len(config.block_out_channels)
    crossing = [kind.startswith("CrossAttn") for kind in config.down_block_types]
    deep = config.transformer_layers_per_block
    depths = [deep] * levels if isinstance(deep, int) else deep
    return UNetLayout(
        channels=tuple(config.block_out_channels),
        depths=tuple(depth if has else 0 for depth, has in zip(depths, crossing, strict=True)),
        resnets=config.layers_per_block,
        heads=config.attention_head_dim,  # diffusers' name for the number of heads
        mid_depth=depths[-1],
    )


@dataclass
class Base:
    """Models of diffusers' and transformers' classes, in eval mode and without gradients."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    vision_encoder: Any
    noise_schedule: Any

    @cached_property
    def layout(self) -> UNetLayout:
        """The UNet's cross-attention layers."""
        return layout_of(self.unet.config)

    def embed(self, texts: list[str]) -> Tensor:
        """Last hidden states after the final LayerNorm: [texts, T, D]."""
        return embed_texts(self.tokenizer, self.text_encoder, texts)[1]

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents of pixels [B, 3, h, w] in -1..1: two [B, 4, h/8, w/8] float32."""
        parameter = next(self.vae.parameters())
        encoded = self.vae.encode(pixels.to(parameter.device, parameter.dtype))
        scale = self.vae.config.scaling_factor
        if isinstance(self.vae, AutoencoderTiny):
            return encoded.latents.float() * scale, torch.zeros_like(encoded.latents, dtype=torch.float32)
        return encoded.latent_dist.mean.float() * scale, encoded.latent_dist.std.float() * scale
