"""The frozen models around an SSR-Encoder: text encoder, image encoder, autoencoder, UNet and noise schedule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from ...layout import UNetLayout
from .encoders import embed_texts


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
        """The UNet's cross-attention layers, from its configuration."""
        config = self.unet.config
        crossing = [kind.startswith("CrossAttn") for kind in config.down_block_types]
        return UNetLayout(
            channels=tuple(config.block_out_channels),
            depths=tuple(int(has) for has in crossing),
            resnets=config.layers_per_block,
            heads=config.attention_head_dim,  # diffusers' name for the number of heads in SD 1.x
        )

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
