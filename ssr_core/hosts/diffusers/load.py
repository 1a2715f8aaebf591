"""Models by name or folder: a base (built in, or of diffusers' layout), a ControlNet, a motion adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, DDPMScheduler, MotionAdapter, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from . import mini
from .base import Base

MINI = "mini"


def load_base(model: str, vision_encoder: str | None = None, dtype: torch.dtype = torch.float32) -> Base:
    """The built-in models ("mini"), or a diffusers folder of Stable Diffusion 1.x and a folder of its CLIP vision model.

    Raises ValueError or OSError that says what is missing.
    """
    if model == MINI:
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


def load_controlnet(folder: str, dtype: torch.dtype) -> Any:
    return ControlNetModel.from_pretrained(folder, torch_dtype=dtype)


def load_motion_adapter(folder: str, dtype: torch.dtype) -> Any:
    """AnimateDiff's, from a folder of diffusers' layout."""
    return MotionAdapter.from_pretrained(folder, torch_dtype=dtype)
