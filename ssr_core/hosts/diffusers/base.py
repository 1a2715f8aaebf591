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
from ...words import Query, words_of
from .encoders import embed_texts, pieces_of, warn_of_cut


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
    """Models of diffusers' and transformers' classes, in eval mode and without gradients.

    text_encoder_2, tokenizer_2: Stable Diffusion XL's second ones, None for 1.x.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    vision_encoder: Any
    noise_schedule: Any
    text_encoder_2: Any = None
    tokenizer_2: Any = None

    @property
    def is_xl(self) -> bool:
        return self.text_encoder_2 is not None

    @property
    def models(self) -> tuple[Any, ...]:
        """All that have weights, the UNet first."""
        every = (self.unet, self.vae, self.text_encoder, self.text_encoder_2, self.vision_encoder)
        return tuple(model for model in every if model is not None)

    @property
    def text_width(self) -> int:
        """Of what the UNet's cross-attentions get."""
        return self.unet.config.cross_attention_dim

    @cached_property
    def layout(self) -> UNetLayout:
        """The UNet's cross-attention layers."""
        return layout_of(self.unet.config)

    def embed(self, texts: list[str]) -> Tensor:
        """What the UNet's cross-attentions get of texts, [texts, T, D]: see texts."""
        return self.texts(texts)[0]

    def texts(self, texts: list[str]) -> tuple[Tensor, Tensor | None]:
        """What the UNet gets of texts. 1.x: last hidden states after the final LayerNorm [texts, T, D], and None. XL: hidden states before
        the last layer of both encoders side by side, and the second's pooled output [texts, P]."""
        first = embed_texts(self.tokenizer, self.text_encoder, texts)
        if not self.is_xl:
            return first.last, None
        second = embed_texts(self.tokenizer_2, self.text_encoder_2, texts)
        return torch.cat([first.penultimate, second.penultimate.to(first.penultimate.device)], dim=-1), second.pooled

    def query(self, text: str) -> Query:
        """Words as a query: embeds [1, T, D] float32 on the CPU. Cut as in Xiaojiu-z/SSR_Encoder, utils/pipeline_t2i.py; what is cut is
        told in a warning."""
        ids = embed_texts(self.tokenizer, self.text_encoder, [text]).ids[0]
        warn_of_cut(self.tokenizer, text, len(ids))
        return Query(text, self.embed([text]).float().cpu(), words_of(pieces_of(self.tokenizer, ids)))

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents of pixels [B, 3, h, w] in -1..1: two [B, 4, h/8, w/8] float32."""
        parameter = next(self.vae.parameters())
        encoded = self.vae.encode(pixels.to(parameter.device, parameter.dtype))
        scale = self.vae.config.scaling_factor
        if isinstance(self.vae, AutoencoderTiny):
            return encoded.latents.float() * scale, torch.zeros_like(encoded.latents, dtype=torch.float32)
        return encoded.latent_dist.mean.float() * scale, encoded.latent_dist.std.float() * scale
