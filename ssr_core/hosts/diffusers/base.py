"""The frozen models around an SSR-Encoder: text encoder, image encoder, autoencoder, UNet and noise schedule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ...layout import UNetLayout
from . import embed_texts

MINI = "mini"


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


def load_base(model: str, vision_encoder: str | None = None, dtype: torch.dtype = torch.float32) -> Base:
    """The built-in models ("mini"), or a diffusers folder of Stable Diffusion 1.x and a folder of its CLIP vision model.

    Raises ValueError or OSError that says what is missing.
    """
    if model == MINI:
        from . import mini

        return mini.load(dtype=dtype)
    if not Path(model).is_dir():
        raise ValueError(
            f"There is no folder {model}. Give a diffusers folder of Stable Diffusion 1.5 (unet, vae, text_encoder, tokenizer, "
            f'scheduler), or "{MINI}" for the built-in models.'
        )
    if vision_encoder is None:
        raise ValueError(f"{model} needs an image encoder: give a folder of openai/clip-vit-large-patch14.")
    options: dict[str, Any] = {"torch_dtype": dtype}
    vae_class = (
        AutoencoderTiny if (Path(model) / "vae" / "config.json").read_text().find("AutoencoderTiny") >= 0 else AutoencoderKL
    )
    models = Base(
        unet=UNet2DConditionModel.from_pretrained(model, subfolder="unet", **options),
        vae=vae_class.from_pretrained(model, subfolder="vae", **options),
        text_encoder=CLIPTextModel.from_pretrained(model, subfolder="text_encoder", **options),
        tokenizer=CLIPTokenizer.from_pretrained(model, subfolder="tokenizer"),
        vision_encoder=CLIPVisionModelWithProjection.from_pretrained(vision_encoder, **options),
        noise_schedule=DDPMScheduler.from_pretrained(model, subfolder="scheduler"),
    )
    for part in (models.unet, models.vae, models.text_encoder, models.vision_encoder):
        part.requires_grad_(False).train(False)
    return models
