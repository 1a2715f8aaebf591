"""Models by name or folder: a base (built in, or of diffusers' layout), a ControlNet, a motion adapter."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, DDPMScheduler, MotionAdapter, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from ...mini.files import MINI
from . import mini
from .base import Base

VISION_L = "openai/clip-vit-large-patch14"
"""The vision model of the SSR-Encoder and of ELITE. Which one an MIP-Adapter takes follows from its shapes (mip.vision_named)."""
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PARTS_XL = ("text_encoder_2", "tokenizer_2")


def load_base(
    model: str, vision_encoder: str | None = None, dtype: torch.dtype = torch.float32, vision_named: str | None = VISION_L
) -> Base:
    """The built-in models ("mini"), or a diffusers folder of Stable Diffusion 1.x or XL and a folder of a CLIP vision model.

    vision_named: what that should be, for messages; None where no pictures are looked at. An autoencoder that overflows in half precision
    (SDXL's own says so: force_upcast) stays in full precision where dtype is float16. Raises ValueError or OSError that says what is
    missing.
    """
    if model == MINI:
        return mini.load(dtype=dtype)
    folder = Path(model)
    if not folder.is_dir():
        raise ValueError(
            f"There is no folder {model}. Give a diffusers folder of Stable Diffusion 1.5 or XL ({', '.join(PARTS)}; with XL also "
            f'{" and ".join(PARTS_XL)}), or "{MINI}" for the built-in models.'
        )
    xl = any((folder / part).is_dir() for part in PARTS_XL)
    kind = "Stable Diffusion XL" if xl else "Stable Diffusion 1.5"
    for part in (*PARTS, *(PARTS_XL if xl else ())):
        if not (folder / part).is_dir():
            raise ValueError(f"{model} has no folder {part}. Give the whole diffusers folder of {kind}.")
    if vision_encoder is None and vision_named is not None:
        raise ValueError(f"{model} needs an image encoder: give a folder of {vision_named}.")
    options: dict[str, Any] = {"torch_dtype": dtype}
    with loading(model, f"{kind} in diffusers' layout"):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_pretrained(model, subfolder="unet", **options),
            "vae": _autoencoder(folder, dtype, xl),
            "text_encoder": CLIPTextModel.from_pretrained(model, subfolder="text_encoder", **options),
            "tokenizer": CLIPTokenizer.from_pretrained(model, subfolder="tokenizer"),
            "noise_schedule": DDPMScheduler.from_pretrained(model, subfolder="scheduler"),
        }
        if xl:
            second = CLIPTextModelWithProjection.from_pretrained(model, subfolder="text_encoder_2", **options)
            parts |= {"text_encoder_2": second, "tokenizer_2": CLIPTokenizer.from_pretrained(model, subfolder="tokenizer_2")}
    _check_text_width(model, parts)
    vision = None
    if vision_encoder is not None:
        with loading(vision_encoder, vision_named or VISION_L):
            vision = CLIPVisionModelWithProjection.from_pretrained(vision_encoder, **options)
    models = Base(**parts, vision_encoder=vision)
    for part in models.models:
        part.requires_grad_(False).train(False)
    return models


def _autoencoder(folder: Path, dtype: torch.dtype, xl: bool) -> Any:
    described = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    kind = AutoencoderTiny if described.get("_class_name") == "AutoencoderTiny" else AutoencoderKL
    # What XL's autoencoder says of itself; that of 1.x says nothing and fits into half precision.
    overflows = xl and kind is AutoencoderKL and described.get("force_upcast", True)
    own = torch.float32 if overflows and dtype == torch.float16 else dtype
    return kind.from_pretrained(folder, subfolder="vae", torch_dtype=own)


def _check_text_width(model: str, parts: dict[str, Any]) -> None:
    """A refiner, say, has the second text encoder's folder alone in use."""
    encoders = [parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts]
    made, taken = sum(one.config.hidden_size for one in encoders), parts["unet"].config.cross_attention_dim
    if made != taken:
        raise ValueError(
            f"The UNet in {model} takes text of width {taken}, its text encoders make {made}. Give a diffusers folder of Stable Diffusion "
            "1.5 or of Stable Diffusion XL's base, whose parts belong together."
        )


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
