"""Models by name or folder: a base (built in, or of diffusers' layout), a ControlNet, a motion adapter."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, DDPMScheduler, MotionAdapter, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ...mini.files import MINI
from . import mini
from .base import Base


def load_base(model: str, vision_encoder: str | None = None, dtype: torch.dtype = torch.float32, sees: bool = True) -> Base:
    """The built-in models ("mini"), or a diffusers folder of Stable Diffusion 1.x and a folder of its CLIP vision model.

    sees: whether the vision model is needed. Raises ValueError or OSError that says what is missing.
    """
    if model == MINI:
        return mini.load(dtype=dtype)
    if not Path(model).is_dir():
        raise ValueError(
            f"There is no folder {model}. Give a diffusers folder of Stable Diffusion 1.5 (unet, vae, text_encoder, tokenizer, "
            f'scheduler), or "{MINI}" for the built-in models.'
        )
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if not (Path(model) / part).is_dir():
            raise ValueError(f"{model} has no folder {part}. Give the whole diffusers folder of Stable Diffusion 1.5.")
    if sees and vision_encoder is None:
        raise ValueError(f"{model} needs an image encoder: give a folder of openai/clip-vit-large-patch14.")
    options: dict[str, Any] = {"torch_dtype": dtype}
    with loading(model, "Stable Diffusion 1.5 in diffusers' layout"):
        tiny = "AutoencoderTiny" in (Path(model) / "vae" / "config.json").read_text(encoding="utf-8")
        vae_class = AutoencoderTiny if tiny else AutoencoderKL
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_pretrained(model, subfolder="unet", **options),
            "vae": vae_class.from_pretrained(model, subfolder="vae", **options),
            "text_encoder": CLIPTextModel.from_pretrained(model, subfolder="text_encoder", **options),
            "tokenizer": CLIPTokenizer.from_pretrained(model, subfolder="tokenizer"),
            "noise_schedule": DDPMScheduler.from_pretrained(model, subfolder="scheduler"),
        }
    vision = None
    if vision_encoder is not None:
        with loading(vision_encoder, "openai/clip-vit-large-patch14"):
            vision = CLIPVisionModelWithProjection.from_pretrained(vision_encoder, **options)
    models = Base(**parts, vision_encoder=vision)
    for part in models.models:
        part.requires_grad_(False).train(False)
    return models


def load_controlnet(folder: str, dtype: torch.dtype) -> Any:
    with loading(folder, "a ControlNet in diffusers' layout"):
        return ControlNetModel.from_pretrained(folder, torch_dtype=dtype)


def load_motion_adapter(folder: str, dtype: torch.dtype) -> Any:
    """AnimateDiff's."""
    with loading(folder, "an AnimateDiff motion adapter in diffusers' layout"):
        return MotionAdapter.from_pretrained(folder, torch_dtype=dtype)


@contextmanager
def loading(folder: str, expected: str) -> Iterator[None]:
    """Whatever goes wrong while a folder of models is loaded, in words that name it. Only folders: nothing is downloaded."""
    if not Path(folder).is_dir():
        raise ValueError(f"There is no folder {folder}. Give a folder of {expected}; nothing is downloaded.")
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        # Damaged files meet the libraries' loaders with whatever they happen to break.
        raise ValueError(
            f"{folder} cannot be loaded as {expected} ({type(error).__name__}: {error}). It is incomplete, damaged or something else."
        ) from error
